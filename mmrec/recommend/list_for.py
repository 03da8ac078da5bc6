"""A user's list: candidates by interest, negative feedback, popular items, diversity, explanations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from indexers.vectors import NO_ROW
from mmrec.events.ratings import FAIR
from mmrec.fusion.fusion import Fusion
from mmrec.query import Hit
from mmrec.ranking.diversify import blend, diversify, losses
from mmrec.ranking.fading import Fading, mixed
from mmrec.recommend.answer import Because, CandidateSource, ListOptions, Recommended
from mmrec.recommend.person import Person
from mmrec.recommend.popular_list import PopularList
from mmrec.recommend.taste_space import TasteSpace
from mmrec.snapshot import Snapshot, hit_of, title_of
from mmrec.unit import unit
from mmrec.users.interests import turned_down
from mmrec.users.model import Interests

_MOST_BESIDE: Final = 500
"""Rows beyond the depth that are asked for because some will be left out; where more are, the search itself is told."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativeFeedback:
    """What a person turned down: unit vectors, and what a copy of each loses."""

    vectors: Float32[np.ndarray, "h dim"]
    strengths: Float32[np.ndarray, " h"]


@dataclass(frozen=True, slots=True, eq=False)
class RankedItems:
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
) -> list[RankedItems]:
    """Search with each vector, `depth` items deep, rows that are left out not counted."""
    if not len(people):
        return []
    if len(left_out) > _MOST_BESIDE:
        allowed = np.setdiff1d(space.index.rows if allowed is None else allowed, left_out)
    found = space.index.search(people, depth + min(len(left_out), _MOST_BESIDE), allowed=allowed)
    kept = (found.rows != NO_ROW) & ~np.isin(found.rows, left_out)
    lists = []
    for rows, scores, good in zip(found.rows, found.scores, kept, strict=True):
        lists.append(RankedItems(rows[good][:depth], scores[good][:depth], scores[good][:depth]))
    return lists


def popular_found(popular: PopularList, depth: int, left_out: Int64[np.ndarray, " s"]) -> RankedItems:
    """Take the popular items as what one more vector found; their ranks fall evenly, as their order is what counts."""
    good = ~np.isin(popular.rows, left_out)
    rows, scores = popular.rows[good][:depth], popular.scores[good][:depth]
    return RankedItems(rows, scores, np.linspace(1, 0, len(rows), dtype=np.float32), by_vector=False)


def lowered(space: TasteSpace, lists: Sequence[RankedItems], turned: NegativeFeedback) -> list[RankedItems]:
    """Lower what is like what was turned down, in all lists."""
    if not len(turned.vectors):
        return list(lists)
    rows = np.unique(np.concatenate([one.rows for one in lists]))
    likeness = unit(space.contents(rows)) @ turned.vectors.T
    return [_lowered(one, likeness[np.searchsorted(rows, one.rows)], turned.strengths) for one in lists]


def _lowered(
    found: RankedItems, likeness: Float32[np.ndarray, "n h"], strengths: Float32[np.ndarray, " h"]
) -> RankedItems:
    cosines = found.scores if found.by_vector else np.zeros_like(found.scores)
    ranks = found.ranks - losses(likeness, strengths, cosines)
    order = np.argsort(-ranks, kind="stable")
    return RankedItems(found.rows[order], found.scores[order], ranks[order], found.by_vector)


def blended_candidates(lists: Sequence[RankedItems], weights: Float32[np.ndarray, " m"], most: int) -> Candidates:
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
    lists: Sequence[RankedItems],
    share: float,
    turned: NegativeFeedback,
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


MOST: Final = 3
"""Reasons a list item has at most; more would explain nothing."""


def reasons(
    fusion: Fusion, person: Person, past: Float32[np.ndarray, "n dim"], items: Float32[np.ndarray, "m dim"]
) -> list[tuple[Because, ...]]:
    """Return for each item the liked items of the past that are most like it by content, each once.

    An item that was rated below average is no reason, even where it counts a little for what is like it.

    Args:
        fusion: Knows the modalities of the vectors.
        person: Whose past it is.
        past: Fused vectors of the past's items, event by event.
        items: Fused vectors of the items to explain.

    """
    good = person.past.weights > 0
    if person.past.strengths is not None:
        good &= ~(person.past.strengths < FAIR)
    latest = {int(person.past.rows[place]): place for place in np.flatnonzero(good).tolist()}
    against = set(person.turned_down.tolist())
    places = np.array(sorted(place for row, place in latest.items() if row not in against), dtype=np.int64)
    if not len(places):
        return [()] * len(items)
    likeness = unit(items) @ unit(past[places]).T
    best = np.argsort(-likeness, axis=1, kind="stable")[:, :MOST]
    return [
        tuple(
            _because(fusion, person, int(places[one]), past[places[one]], item)
            for one in order.tolist()
            if row[one] > 0
        )
        for item, row, order in zip(items, likeness, best, strict=True)
    ]


def _because(
    fusion: Fusion, person: Person, place: int, past: Float32[np.ndarray, " dim"], item: Float32[np.ndarray, " dim"]
) -> Because:
    length = float(np.linalg.norm(past) * np.linalg.norm(item))
    shares = {name: share / length for name, share in fusion.shares(past, item).items()}
    return Because(person.ids[place], person.past.kinds[place], sum(shares.values()), shares)


ENOUGH: Final = 3.0
"""Sum of weights from which a list is owed to the person alone: three views, two clicks, or one like.

This holds where the log has too few events to tell; where it has enough, `mmrec.ranking.fading` says how far.
"""

DEPTH: Final = 200
"""Candidates that are blended and spread, where the list itself is not longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A person in the space of the items.

    Attributes:
        interests: What their past gives.
        text: What the text of the call gives, a unit vector; None without one.
        turned: What they turned down.

    """

    interests: Interests
    text: Float32[np.ndarray, " dim"] | None
    turned: NegativeFeedback

    @property
    def vectors(self) -> Float32[np.ndarray, "m dim"]:
        """What is searched with: the interests, then the text."""
        found = self.interests.vectors
        return found if self.text is None else np.concatenate([found, self.text[None]])

    @property
    def weights(self) -> Float32[np.ndarray, " m"]:
        """Share of each; a text counts as much as all the past."""
        found = self.interests.weights
        if self.text is None:
            return found
        return np.append(found / 2, np.float32(0.5 if len(found) else 1))


def place(space: TasteSpace, person: Person, text: Float32[np.ndarray, " content"] | None, now: int) -> Placed:
    """Place a person by their past, and by a text as the fusion has it."""
    past = space.vectors(person.past.rows)
    interests = space.model.people([person.past], [past], now)[0]
    wish = None if text is None else unit(space.model.items(np.array([-1], dtype=np.int64), text[None]))[0]
    against = (person.past.weights < 0).any()
    contents = space.contents(person.past.rows) if against else np.zeros((len(past), 0), dtype=np.float32)
    return Placed(interests, wish, NegativeFeedback(*turned_down(person.past, contents)))


def popular_share(person: Person, placed: Placed, fading: Fading | None = None) -> float:
    """How much of a list what is popular has: all for a stranger, nothing for whom enough is known or who asks."""
    if placed.text is not None:
        return 0.0
    if not len(placed.vectors):
        return 1.0
    if fading is not None:
        return 1 - fading.share(len(person.past))
    weights = person.past.weights
    return max(0.0, 1 - float(weights[weights > 0].sum()) / ENOUGH)


def ranked(
    space: TasteSpace,
    person: Person,
    placed: Placed,
    popular: PopularList,
    allowed: Int64[np.ndarray, " a"] | None,
    wishes: ListOptions,
    fading: Fading | None = None,
) -> tuple[Candidates, Int64[np.ndarray, " k"]]:
    """Return the candidates, and the places among them of those to show, in order; popular ones are the last list.

    Where `fading` was fitted, what is popular and what is like the past are mixed by score, else by seats.
    """
    depth = max(DEPTH, 2 * wishes.k)
    left_out = np.union1d(person.seen, person.turned_down) if wishes.exclude_seen else person.turned_down
    share = popular_share(person, placed, fading)
    weights = np.append(placed.weights * np.float32(1 - share), np.float32(share))
    lists = found_for(space, placed.vectors, _deep_enough(weights[:-1], wishes.k, depth), left_out, allowed)
    lists.append(popular_found(popular.met() if lists else popular, depth, left_out))
    if fading is not None and 0 < share < 1:
        candidates = mixed_candidates(space, placed.vectors, lists, 1 - share, placed.turned, depth)
    else:
        candidates = blended_candidates(lowered(space, lists, placed.turned), weights, depth)
    dial = float(wishes.diversity)
    units = unit(space.contents(candidates.rows)) if dial else np.zeros((len(candidates.rows), 0), dtype=np.float32)
    return candidates, diversify(candidates.relevance, units, wishes.k, dial)


def _deep_enough(weights: Float32[np.ndarray, " m"], k: int, depth: int) -> int:
    """How deep each list must be: twice the seats of the strongest interest, and long enough to be the whole answer."""
    return min(depth, max(2 * k, int(np.ceil(2 * depth * weights.max(initial=0)))))


def hits_for(
    snapshot: Snapshot,
    space: TasteSpace,
    person: Person,
    placed: Placed,
    chosen: tuple[Candidates, Int64[np.ndarray, " k"]],
    *,
    explain: bool,
) -> list[Recommended]:
    """Look up what is to be shown, and say why where that is wanted."""
    candidates, order = chosen
    rows = candidates.rows[order]
    stored = snapshot.items.by_row(rows.tolist())
    because: list[tuple[Because, ...]] = [()] * len(rows)
    if explain:
        because = reasons(snapshot.generation.fusion, person, space.contents(person.past.rows), space.contents(rows))
        because = _titled(snapshot, because)
    people, vectors = placed.vectors, space.vectors(rows)
    hits = []
    for at, row in enumerate(rows.tolist()):
        if row in stored:
            which, score = int(candidates.lists[order[at]]), float(candidates.scores[order[at]])
            popular = which == len(people)
            shares = {"popular": score} if popular else space.shares(people[which], vectors[at])
            hits.append(_recommended(hit_of(stored[row], score, shares), _source(placed, which), which, because[at]))
    return hits


def _titled(snapshot: Snapshot, because: list[tuple[Because, ...]]) -> list[tuple[Because, ...]]:
    """Name the items of the past as a reader knows them."""
    past = snapshot.items.by_id(sorted({one.id for some in because for one in some}))
    titles = {item_id: title_of(item) for item_id, item in past.items()}
    return [tuple(replace(one, title=titles.get(one.id, "")) for one in some) for some in because]


def _source(placed: Placed, which: int) -> CandidateSource:
    if which < len(placed.interests.vectors):
        return "taste"
    return "text" if which < len(placed.vectors) else "popular"


def _recommended(hit: Hit, source: CandidateSource, which: int, because: tuple[Because, ...]) -> Recommended:
    return Recommended(
        hit.id,
        hit.score,
        hit.shares,
        hit.text,
        hit.media,
        hit.metadata,
        source,
        which if source == "taste" else None,
        because,
    )
