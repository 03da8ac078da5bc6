"""One immutable index of a live one, and a mask for what went from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64, Shaped

from indexers.protocol import Index
from indexers.ranking import NO_ROW, ranked
from indexers.types import Neighbours
from indexers.vectors import contains

__all__ = ["Segment"]

SLACK = 32
"""Neighbours beyond k asked of a segment with hidden rows; a query still short is asked again among the visible."""


@dataclass(frozen=True, eq=False)
class Segment:
    """An index and those of its rows that no longer count: removed, or replaced elsewhere.

    Attributes:
        index: The index, which is never changed.
        rows: All its rows, ascending.
        hidden: Those that no longer count, ascending.

    """

    index: Index
    rows: Int64[np.ndarray, " n"]
    hidden: Int64[np.ndarray, " h"]

    @classmethod
    def of(cls, index: Index) -> "Segment":
        """Return the segment of an index of which all rows count."""
        # An index promises no order of its rows, and what is looked up here is looked up by bisection.
        return cls(index, np.sort(index.rows), np.empty(0, dtype=np.int64))

    def hiding(self, rows: Int64[np.ndarray, " a"]) -> "Segment":
        """Return the segment with these rows hidden too; rows that it does not hold are ignored."""
        hidden = np.union1d(self.hidden, rows[contains(self.rows, rows)])
        return self if len(hidden) == len(self.hidden) else replace(self, hidden=hidden)

    @cached_property
    def visible(self) -> Int64[np.ndarray, " v"]:
        """Rows that count, ascending."""
        return self.rows[~contains(self.hidden, self.rows)]

    def __len__(self) -> int:
        """Return the number of rows that count."""
        return len(self.rows) - len(self.hidden)

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        allowed: Int64[np.ndarray, " a"] | None,
        search: Mapping[str, int] | None,
    ) -> Neighbours:
        """Return the k best rows that count."""
        if allowed is not None:
            wanted = allowed[~contains(self.hidden, allowed)]
            return self.index.search(queries, k, allowed=wanted, search=search)
        if not self.hidden.size:
            return self.index.search(queries, k, search=search)
        found = self.index.search(queries, k + min(SLACK, len(self.hidden)), search=search)
        gone = contains(self.hidden, found.rows.reshape(-1)).reshape(found.rows.shape)
        found = ranked(found.rows, np.where(gone, np.float32(-np.inf), found.scores), k)
        short = np.flatnonzero((found.rows != NO_ROW).sum(axis=1) < min(k, len(self)))
        if short.size:
            again = self.index.search(queries[short], k, allowed=self.visible, search=search)
            found.rows[short], found.scores[short] = again.rows, again.scores
        return found
