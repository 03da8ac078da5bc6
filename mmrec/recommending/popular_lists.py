"""Popular lists of a snapshot, made when someone needs one and kept while nothing has changed."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from mmrec.behaviour.popularity import Popular
from mmrec.recommending.popular_list import CANDIDATES, PopularList, popular_list
from mmrec.snapshot import Snapshot

__all__ = ["PopularLists"]

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
