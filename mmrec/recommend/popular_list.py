"""Popular items for users of whom little is known, and how fast they give way to personal ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from indexers.vectors import NO_ROW
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import load_events
from mmrec.events.histories import DecayedPopularity, Histories, KnownItems, Opening, openings
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.popularity import Popular
from mmrec.events.ratings import read_ratings
from mmrec.ranking.diversify import blend
from mmrec.ranking.fading import COUNTS, Asked, Fading, fit_fading
from mmrec.recommend.taste_space import TasteSpace
from mmrec.snapshot import Snapshot
from mmrec.unit import unit
from mmrec.users.model import Past

CANDIDATES: Final = 300
"""Items that are spread: many lists long, and grouped in some milliseconds."""
_CLUSTERS: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class PopularList:
    """Items in the order to show them.

    Attributes:
        rows: Row numbers.
        scores: How popular each is beside the most popular one, 0 to 1; 0 where there are no events.

    """

    rows: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]

    def met(self) -> "PopularList":
        """Return the items that anyone has met: the others only fill up the list of someone who is not known at all."""
        return PopularList(self.rows[self.scores > 0], self.scores[self.scores > 0])

    @classmethod
    def empty(cls) -> "PopularList":
        """Return a list of nothing."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def popular_list(
    popular: Mapping[int, float], others: Int64[np.ndarray, " n"], vectors: Mapping[int, Float32[np.ndarray, " dim"]]
) -> PopularList:
    """Group items by content, and give each group seats by the root of its popularity, its most popular item first.

    Without the root one popular subject would have all the seats, and a person who does not care for it no choice.
    Where nothing is popular, groups count by their size, and the most central item of each comes first.

    Args:
        popular: Popularity by row number, above 0.
        others: Row numbers that fill up after these.
        vectors: Vector of each of all these items.

    """
    rows = [*popular, *(row for row in others.tolist() if row not in popular)][:CANDIDATES]
    if not rows:
        return PopularList.empty()
    units = unit(np.stack([vectors[row] for row in rows]))
    best = max(popular.values(), default=1.0)
    scores = np.array([popular.get(row, 0.0) / best for row in rows], dtype=np.float32)
    groups = _groups(units)
    lists, weights = [], []
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        central = units[members] @ units[members].sum(axis=0)
        order = np.lexsort((members, -central, -scores[members]))
        lists.append(np.array(rows, dtype=np.int64)[members[order]])
        # What nobody met yet follows by size, far behind.
        weights.append(float(np.sqrt(scores[members].sum())) + 1e-6 * len(members))
    score_of = dict(zip(rows, scores.tolist(), strict=True))
    blended = blend(lists, weights, len(rows))
    return PopularList(blended.rows, np.array([score_of[row] for row in blended.rows.tolist()], dtype=np.float32))


def _groups(units: Float32[np.ndarray, "n dim"]) -> Int64[np.ndarray, " n"]:
    """Number of each item's group, from 0; Ward's criterion makes groups of like extent."""
    if len(units) <= 2:
        return np.arange(len(units), dtype=np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - every command would load it

    return fcluster(linkage(units, "ward"), min(_CLUSTERS, len(units)), "maxclust").astype(np.int64) - 1


_KEPT = 16


class PopularLists:
    """Popular lists by filter, for one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Take the snapshot whose items are listed."""
        self._snapshot = snapshot
        self._made = lru_cache(maxsize=_KEPT)(self._make)

    def read(self, popular: Popular, where: str | None) -> PopularList:
        """Return the list for what is popular now, among the items that a filter lets pass."""
        return self._made(popular, where)

    def _make(self, popular: Popular, where: str | None) -> PopularList:
        snapshot = self._snapshot
        there = snapshot.live.rows
        allowed = np.sort(there) if where is None else np.intersect1d(there, snapshot.items.rows(where))
        rows = snapshot.items.rows_of(popular.ids)
        known = [(rows[name], score) for name, score in zip(popular.ids, popular.scores, strict=True) if name in rows]
        fit = np.isin([row for row, _ in known], allowed)
        chosen = dict([pair for pair, good in zip(known, fit, strict=True) if good][:CANDIDATES])
        wanted = [*chosen, *_sample(allowed).tolist()]
        vectors = dict(zip(wanted, snapshot.vectors(wanted), strict=True))
        return popular_list(chosen, _sample(allowed), vectors)


def _sample(rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """As many rows as a list is made of, from all over the catalog."""
    places = np.linspace(0, len(rows) - 1, min(CANDIDATES, len(rows)))
    return rows[places.astype(np.int64)]


_PEOPLE: Final = 100
_EVENTS: Final = 80_000
_GROWN: Final = 1.2
_DEEP: Final = 200


class Fadings:
    """Fits `mmrec.ranking.fading` to the newest events of a log; safe to use from several threads.

    It takes a second or two, at the first list and whenever the log has grown by a fifth or another generation serves.
    """

    def __init__(self, kinds: Kinds) -> None:
        """Take the weights of the kinds."""
        self._kinds = kinds
        self._lock = Lock()
        self._fitted: tuple[int, int, Fading | None] | None = None

    def read(self, snapshot: Snapshot, space: TasteSpace, log: EventLog) -> Fading | None:
        """Return the shares; None where held-out events are too few, or the space was trained on all of them."""
        if snapshot.generation.tower_index is not None:
            return None
        number = snapshot.generation.manifest.number
        newest, before = log.newest(), self._fitted
        if before is not None and before[0] == number and before[1] <= newest <= max(100, _GROWN * before[1]):
            return before[2]
        # While one request fits anew, others go on with the shares of before.
        if self._lock.acquire(blocking=before is None or before[0] != number):
            try:
                if self._fitted is before:
                    self._fitted = (number, newest, self._fit(snapshot, space, log, newest))
            finally:
                self._lock.release()
        return None if self._fitted is None else self._fitted[2]

    def _fit(self, snapshot: Snapshot, space: TasteSpace, log: EventLog, newest: int) -> Fading | None:
        events = load_events(log.scan(max(0, newest - _EVENTS)))
        rows = snapshot.items.rows_of(events.item_ids.to_pylist())
        ids = sorted(rows, key=str.encode)
        known = KnownItems(pa.array(ids, pa.string()), np.array([rows[name] for name in ids], dtype=np.int64))
        cleaned = clean(events, Cleaning(kinds=self._kinds), known)[0]
        histories = Histories.of(cleaned, known, read_ratings(cleaned, self._kinds))
        weights = histories.weights(self._kinds.weights)
        questions = openings(histories, weights, COUNTS, _PEOPLE)
        if not questions:
            return None
        return fit_fading(_Asking(space, histories, weights).asked(questions))


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """Makes lists of candidates as recommending does, for users of the past."""

    space: TasteSpace
    histories: Histories
    weights: Float32[np.ndarray, " n"]

    def asked(self, questions: Sequence[Opening]) -> list[Asked]:
        rows = np.unique(self.histories.items)
        popularity = DecayedPopularity(self.histories, self.weights, rows)
        vectors = self.space.vectors(rows)
        found = []
        for one in questions:
            popular = popularity.at(one.moment)
            some = np.sort(np.argsort(-popular, kind="stable")[:CANDIDATES])
            some = some[popular[some] > 0]
            asked = self._asked(one, rows[some], popular[some], vectors[some])
            if asked is not None:
                found.append(asked)
        return found

    def _asked(
        self,
        one: Opening,
        rows: Int64[np.ndarray, " p"],
        popular: Float32[np.ndarray, " p"],
        vectors: Float32[np.ndarray, "p dim"],
    ) -> Asked | None:
        past = self._past(one.past)
        people = self.space.model.people([past], [self.space.vectors(past.rows)], one.moment)[0].vectors
        if not len(people):
            return None
        near = self.space.index.search(people, _DEEP + len(past))
        there = near.rows != NO_ROW
        every = np.unique(np.concatenate([rows, near.rows[there]]))
        likeness = np.full(len(every), -1, dtype=np.float32)
        np.maximum.at(likeness, np.searchsorted(every, near.rows[there]), near.scores[there])
        places = np.searchsorted(every, rows)
        likeness[places] = np.maximum(likeness[places], (vectors @ people.T).max(axis=1))
        popularity = np.zeros(len(every), dtype=np.float32)
        popularity[places] = popular
        left = ~np.isin(every, past.rows)
        targets = np.flatnonzero(np.isin(every[left], one.targets))
        return Asked(one.person, one.known, popularity[left], likeness[left], targets, len(one.targets) - len(targets))

    def _past(self, at: slice) -> Past:
        told = self.histories
        kinds = tuple(told.kind_names[kind] for kind in told.kinds[at].tolist())
        return Past(
            told.items[at],
            kinds,
            self.weights[at],
            told.times[at],
            None if told.strengths is None else told.strengths[at],
        )
