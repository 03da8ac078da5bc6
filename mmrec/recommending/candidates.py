"""Vectors of a person to one list of candidates: search, leave out, lower what is like what was turned down, merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from indexers.ranking import NO_ROW
from mmrec.ranking.blend import blend
from mmrec.ranking.fading import mixed
from mmrec.ranking.repel import losses
from mmrec.recommending.popular_list import PopularList
from mmrec.recommending.taste_space import TasteSpace
from mmrec.unit import unit

__all__ = [
    "Candidates",
    "Found",
    "Turned",
    "blended_candidates",
    "found_for",
    "lowered",
    "mixed_candidates",
    "popular_found",
]

_MOST_BESIDE: Final = 500
"""Rows beyond the depth that are asked for because some will be left out; where more are, the search itself is told."""


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """What a person turned down: unit vectors, and what a copy of each loses."""

    vectors: Float32[np.ndarray, "h dim"]
    strengths: Float32[np.ndarray, " h"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What one vector of a person found, best first.

    Attributes:
        rows: Row numbers.
        scores: How well each matches.
        ranks: What the order goes by: the scores, lowered by what was turned down.
        by_vector: Whether a search found them, so that the scores are cosines with a vector of the person.

    """

    rows: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    ranks: Float32[np.ndarray, " n"]
    by_vector: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """One list, best first.

    Attributes:
        rows: Row numbers.
        lists: Which list brought each.
        scores: Its score there.
        relevance: From 1 down to 0, never rising.

    """

    rows: Int64[np.ndarray, " n"]
    lists: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    relevance: Float32[np.ndarray, " n"]


def found_for(
    space: TasteSpace,
    people: Float32[np.ndarray, "m dim"],
    depth: int,
    left_out: Int64[np.ndarray, " s"],
    allowed: Int64[np.ndarray, " a"] | None,
) -> list[Found]:
    """Search with each vector, `depth` items deep, rows that are left out not counted."""
    if not len(people):
        return []
    if len(left_out) > _MOST_BESIDE:
        allowed = np.setdiff1d(space.index.rows if allowed is None else allowed, left_out)
    found = space.index.search(people, depth + min(len(left_out), _MOST_BESIDE), allowed=allowed)
    kept = (found.rows != NO_ROW) & ~np.isin(found.rows, left_out)
    lists = []
    for rows, scores, good in zip(found.rows, found.scores, kept, strict=True):
        lists.append(Found(rows[good][:depth], scores[good][:depth], scores[good][:depth]))
    return lists


def popular_found(popular: PopularList, depth: int, left_out: Int64[np.ndarray, " s"]) -> Found:
    """Take the popular items as what one more vector found; their ranks fall evenly, as their order is what counts."""
    good = ~np.isin(popular.rows, left_out)
    rows, scores = popular.rows[good][:depth], popular.scores[good][:depth]
    return Found(rows, scores, np.linspace(1, 0, len(rows), dtype=np.float32), by_vector=False)


def lowered(space: TasteSpace, lists: Sequence[Found], turned: Turned) -> list[Found]:
    """Lower what is like what was turned down, in all lists."""
    if not len(turned.vectors):
        return list(lists)
    rows = np.unique(np.concatenate([one.rows for one in lists]))
    likeness = unit(space.contents(rows)) @ turned.vectors.T
    return [_lowered(one, likeness[np.searchsorted(rows, one.rows)], turned.strengths) for one in lists]


def _lowered(found: Found, likeness: Float32[np.ndarray, "n h"], strengths: Float32[np.ndarray, " h"]) -> Found:
    cosines = found.scores if found.by_vector else np.zeros_like(found.scores)
    ranks = found.ranks - losses(likeness, strengths, cosines)
    order = np.argsort(-ranks, kind="stable")
    return Found(found.rows[order], found.scores[order], ranks[order], found.by_vector)


def blended_candidates(lists: Sequence[Found], weights: Float32[np.ndarray, " m"], most: int) -> Candidates:
    """Make one list of several, each item's relevance being where its rank lies between the ends of its own list."""
    blended = blend([one.rows for one in lists], weights, most)
    scores = np.zeros(len(blended), dtype=np.float32)
    relevance = np.zeros(len(blended), dtype=np.float32)
    for which, one in enumerate(lists):
        here = blended.lists == which
        places = blended.places[here]
        scores[here] = one.scores[places]
        relevance[here] = _between_ends(one.ranks)[places]
    # Relevance must not rise along the list: without any wish for diversity its order is the order to show.
    relevance = np.minimum.accumulate(relevance) if len(relevance) else relevance
    return Candidates(blended.rows, blended.lists, scores, relevance)


def mixed_candidates(
    space: TasteSpace,
    people: Float32[np.ndarray, "m dim"],
    lists: Sequence[Found],
    share: float,
    turned: Turned,
    most: int,
) -> Candidates:
    """Make one list by the scores of `mmrec.ranking.fading`, lowered by what was turned down.

    Args:
        space: Where the items lie.
        people: Vectors that the lists were searched with.
        lists: What each found, and at last what is popular, as `popular_found` gives it.
        share: Share of the likeness in the scores.
        turned: What the person turned down.
        most: Items at most.

    """
    popular = lists[-1]
    rows = np.unique(np.concatenate([one.rows for one in lists]))
    near = space.vectors(rows) @ people.T
    popularity = np.zeros(len(rows), dtype=np.float32)
    popularity[np.searchsorted(rows, popular.rows)] = popular.scores
    likeness = near.max(axis=1)
    ranks = mixed(popularity, likeness, share)
    by_past = mixed(np.zeros_like(popularity), likeness, share) >= ranks / 2
    if len(turned.vectors):
        ranks -= losses(unit(space.contents(rows)) @ turned.vectors.T, turned.strengths, share * likeness)
    order = np.argsort(-ranks, kind="stable")[:most]
    which = np.where(by_past, near.argmax(axis=1), len(people))
    scores = np.where(by_past, likeness, popularity)
    return Candidates(rows[order], which[order], scores[order], _between_ends(ranks[order]))


def _between_ends(ranks: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    if not len(ranks):
        return ranks
    span = ranks[0] - ranks[-1]
    return (ranks - ranks[-1]) / span if span > 0 else np.ones_like(ranks)
