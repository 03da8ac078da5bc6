"""One person's list from one snapshot: place them, search, blend, spread, explain."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.query import Hit
from mmrec.ranking.diversify import diversify
from mmrec.ranking.fading import Fading
from mmrec.recommending.answer import Because, Recommended, Source
from mmrec.recommending.candidates import (
    Candidates,
    Turned,
    blended_candidates,
    found_for,
    lowered,
    mixed_candidates,
    popular_found,
)
from mmrec.recommending.person import Person
from mmrec.recommending.popular_list import PopularList
from mmrec.recommending.reasons import reasons
from mmrec.recommending.taste_space import TasteSpace
from mmrec.recommending.wishes import Wishes
from mmrec.snapshot import Snapshot
from mmrec.store.hits import hit_of, title_of
from mmrec.unit import unit
from mmrec.users.interests import turned_down
from mmrec.users.model import Interests

__all__ = ["ENOUGH", "Placed", "hits_for", "place", "popular_share", "ranked"]

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
    turned: Turned

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
    return Placed(interests, wish, Turned(*turned_down(person.past, contents)))


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
    wishes: Wishes,
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


def _source(placed: Placed, which: int) -> Source:
    if which < len(placed.interests.vectors):
        return "taste"
    return "text" if which < len(placed.vectors) else "popular"


def _recommended(hit: Hit, source: Source, which: int, because: tuple[Because, ...]) -> Recommended:
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
