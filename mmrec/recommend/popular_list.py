"""Lists of recently popular items, spread over the catalog, for users of whom little is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.events.popularity import Popular
from mmrec.ranking.blend import blend
from mmrec.snapshot import Snapshot
from mmrec.unit import unit

__all__ = ["CANDIDATES", "PopularList", "PopularLists", "popular_list"]


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
