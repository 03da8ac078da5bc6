"""Popular items for users of whom little is known, and the fitted blend of popularity and similarity, both cached."""

from collections.abc import Iterator, Mapping, Sequence
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
from mmrec.events.histories import DecayedPopularity, Histories, HistoryPrefix, KnownItems, sample_prefixes
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.popularity import Popular
from mmrec.events.ratings import read_ratings
from mmrec.recommend.diversify import blend
from mmrec.recommend.popularity_blend import KNOWN_EVENTS, HeldOutEvents, PopularityBlend, fit_popularity_blend
from mmrec.recommend.user_item_space import UserItemSpace
from mmrec.snapshot import Snapshot
from mmrec.unit import unit
from mmrec.users.model import History

CANDIDATES: Final = 300
"""Items that are clustered, in some milliseconds: many lists long."""
_MOST_CLUSTERS: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class PopularList:
    """Row numbers in the order to show them; `scores` are relative to the most popular item, 0 without events."""

    rows: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]

    def known(self) -> "PopularList":
        """The items with events: the others only fill up the list of users without any."""
        return PopularList(self.rows[self.scores > 0], self.scores[self.scores > 0])

    @classmethod
    def empty(cls) -> "PopularList":
        """A list of nothing."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def popular_list(
    popular: Mapping[int, float], others: Int64[np.ndarray, " n"], vectors: Mapping[int, Float32[np.ndarray, " dim"]]
) -> PopularList:
    """Cluster items by content, and give each cluster seats by the root of its popularity, most popular items first.

    Without the root one popular subject would have all the seats. If nothing is popular, clusters count by their size,
    and the most central item of each comes first. `popular` has popularity above 0 by row number, `others` are rows
    that fill up after these, `vectors` has the vectors of all.
    """
    rows = [*popular, *(row for row in others.tolist() if row not in popular)][:CANDIDATES]
    if not rows:
        return PopularList.empty()
    units = unit(np.stack([vectors[row] for row in rows]))
    best = max(popular.values(), default=1.0)
    scores = np.array([popular.get(row, 0.0) / best for row in rows], dtype=np.float32)
    clusters = _clusters(units)
    lists, weights = [], []
    for cluster in range(int(clusters.max()) + 1):
        members = np.flatnonzero(clusters == cluster)
        central = units[members] @ units[members].sum(axis=0)
        order = np.lexsort((members, -central, -scores[members]))
        lists.append(np.array(rows, dtype=np.int64)[members[order]])
        # Items without events follow by size, far behind.
        weights.append(float(np.sqrt(scores[members].sum())) + 1e-6 * len(members))
    score_of = dict(zip(rows, scores.tolist(), strict=True))
    blended = blend(lists, weights, len(rows))
    return PopularList(blended.rows, np.array([score_of[row] for row in blended.rows.tolist()], dtype=np.float32))


def _clusters(units: Float32[np.ndarray, "n dim"]) -> Int64[np.ndarray, " n"]:
    """Number of each item's cluster, from 0; Ward's criterion makes clusters of similar extent."""
    if len(units) <= 2:
        return np.arange(len(units), dtype=np.int64)
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - every command would load it

    return fcluster(linkage(units, "ward"), min(_MOST_CLUSTERS, len(units)), "maxclust").astype(np.int64) - 1


class PopularLists:
    """Popular lists by filter, for one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Lists are made of the snapshot's items."""
        self._snapshot = snapshot
        self.read = lru_cache(maxsize=16)(self._make)

    def _make(self, popular: Popular, where: str | None) -> PopularList:
        """The popular list among the items that a filter selects."""
        snapshot = self._snapshot
        rows_now = snapshot.index.rows
        allowed = np.sort(rows_now) if where is None else np.intersect1d(rows_now, snapshot.items.rows(where))
        rows = snapshot.items.rows_of(popular.ids)
        known = [(rows[name], score) for name, score in zip(popular.ids, popular.scores, strict=True) if name in rows]
        fit = np.isin([row for row, _ in known], allowed)
        chosen = dict([pair for pair, good in zip(known, fit, strict=True) if good][:CANDIDATES])
        # As many more as a list is made of, from all over the catalog.
        places = np.linspace(0, len(allowed) - 1, min(CANDIDATES, len(allowed)))
        others = allowed[places.astype(np.int64)]
        wanted = [*chosen, *others.tolist()]
        return popular_list(chosen, others, dict(zip(wanted, snapshot.vectors(wanted), strict=True)))


_USERS: Final = 100
_EVENTS: Final = 80_000
_GROWTH: Final = 1.2
_DEPTH: Final = 200


class PopularityBlendCache:
    """Fits `mmrec.recommend.popularity_blend` to the newest events of a log; safe to use from several threads.

    It takes a second or two, at the first list and whenever the log has grown by a fifth or the generation changes.
    """

    def __init__(self, kinds: Kinds) -> None:
        """Fit nothing yet."""
        self._kinds = kinds
        self._lock = Lock()
        self._fitted: tuple[int, int, PopularityBlend | None] | None = None

    def read(self, snapshot: Snapshot, space: UserItemSpace, log: EventLog) -> PopularityBlend | None:
        """The blend; None where held-out events are too few, or the space was trained on all of them."""
        if snapshot.generation.tower_index is not None:
            return None
        number = snapshot.generation.manifest.number
        newest, before = log.newest(), self._fitted
        if before is not None and before[0] == number and before[1] <= newest <= max(100, _GROWTH * before[1]):
            return before[2]
        # While one request fits anew, others go on with the shares of before.
        if self._lock.acquire(blocking=before is None or before[0] != number):
            try:
                if self._fitted is before:
                    self._fitted = (number, newest, self._fit(snapshot, space, log, newest))
            finally:
                self._lock.release()
        return None if self._fitted is None else self._fitted[2]

    def _fit(self, snapshot: Snapshot, space: UserItemSpace, log: EventLog, newest: int) -> PopularityBlend | None:
        events = load_events(log.scan(max(0, newest - _EVENTS)))
        rows = snapshot.items.rows_of(events.item_ids.to_pylist())
        ids = sorted(rows, key=str.encode)
        known = KnownItems(pa.array(ids, pa.string()), np.array([rows[name] for name in ids], dtype=np.int64))
        cleaned = clean(events, Cleaning(kinds=self._kinds), known)[0]
        histories = Histories.of(cleaned, known, read_ratings(cleaned, self._kinds))
        weights = histories.weights(self._kinds.weights)
        first = sample_prefixes(histories, weights, KNOWN_EVENTS, _USERS)
        return fit_popularity_blend(list(_held_out(space, histories, weights, first))) if first else None


def _held_out(
    space: UserItemSpace, histories: Histories, weights: Float32[np.ndarray, " n"], first: Sequence[HistoryPrefix]
) -> Iterator[HeldOutEvents]:
    """Score candidates for prefixes of histories, found as recommending does."""
    rows = np.unique(histories.items)
    popularity, vectors = DecayedPopularity(histories, weights, rows), space.vectors(rows)
    for one in first:
        history = History.of(histories, weights, one.past)
        users = space.model.users([history], [space.vectors(history.rows)], one.moment)[0].vectors
        if len(users):
            scores = popularity.at(one.moment)
            some = np.sort(np.argsort(-scores, kind="stable")[:CANDIDATES])
            some = some[scores[some] > 0]
            near = space.index.search(users, _DEPTH + len(history))
            there = near.rows != NO_ROW
            every = np.unique(np.concatenate([rows[some], near.rows[there]]))
            similarity = np.full(len(every), -1, dtype=np.float32)
            np.maximum.at(similarity, np.searchsorted(every, near.rows[there]), near.scores[there])
            places = np.searchsorted(every, rows[some])
            similarity[places] = np.maximum(similarity[places], (vectors[some] @ users.T).max(axis=1))
            popular = np.zeros(len(every), dtype=np.float32)
            popular[places] = scores[some]
            left = ~np.isin(every, history.rows)
            targets = np.flatnonzero(np.isin(every[left], one.targets))
            missed = len(one.targets) - len(targets)
            yield HeldOutEvents(one.user, one.known, popular[left], similarity[left], targets, missed)
