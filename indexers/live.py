"""A live index: immutable segments, an exact tail for additions, and a mask for removals, searched as one."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

from indexers.protocol import Index, IndexersError, Metric, Neighbours
from indexers.vectors import NO_ROW, as_rows, contains, merge_top_k, top_k

if TYPE_CHECKING:
    import indexers.exact


SLACK = 32
"""Extra neighbours requested from a segment with hidden rows; a query still short is searched again."""


@dataclass(frozen=True, eq=False)
class Segment:
    """An immutable index, and which of its rows are hidden because they were removed or replaced elsewhere.

    Both `rows` (all of them) and `hidden` are ascending.
    """

    index: Index
    rows: Int64[np.ndarray, " n"]
    hidden: Int64[np.ndarray, " h"]

    def with_hidden(self, rows: Int64[np.ndarray, " a"]) -> "Segment":
        """Return the segment with these rows hidden too; rows that it does not hold are ignored."""
        hidden = np.union1d(self.hidden, rows[contains(self.rows, rows)])
        return self if len(hidden) == len(self.hidden) else replace(self, hidden=hidden)

    @cached_property
    def visible(self) -> Int64[np.ndarray, " v"]:
        """Rows that are not hidden, ascending."""
        return self.rows[~contains(self.hidden, self.rows)]

    def __len__(self) -> int:
        """Return the number of visible rows."""
        return len(self.rows) - len(self.hidden)

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        allowed: Int64[np.ndarray, " a"] | None,
        search: Mapping[str, int] | None,
    ) -> Neighbours:
        """Return the k best visible rows."""
        if allowed is not None:
            wanted = allowed[~contains(self.hidden, allowed)]
            return self.index.search(queries, k, allowed=wanted, search=search)
        if not self.hidden.size:
            return self.index.search(queries, k, search=search)
        found = self.index.search(queries, k + min(SLACK, len(self.hidden)), search=search)
        gone = contains(self.hidden, found.rows.reshape(-1)).reshape(found.rows.shape)
        found = top_k(found.rows, np.where(gone, np.float32(-np.inf), found.scores), k)
        short = np.flatnonzero((found.rows != NO_ROW).sum(axis=1) < min(k, len(self)))
        if short.size:
            again = self.index.search(queries[short], k, allowed=self.visible, search=search)
            found.rows[short], found.scores[short] = again.rows, again.scores
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LiveState:
    """Immutable segments, and the exact index of added rows (the tail); None, and no torch loaded, without any."""

    segments: tuple[Segment, ...]
    tail: "indexers.exact.ExactIndex | None" = None


class LiveIndex:
    """Rows and vectors that can be added, replaced, removed and searched at the same time, from any thread."""

    def __init__(self, dim: int, metric: Metric, segments: Sequence[Index] = ()) -> None:
        """Start from immutable segments, oldest first: of a row in several segments, the last one counts.

        Raises IndexersError for a segment of another length or metric.
        """
        held: tuple[Segment, ...] = ()
        for index in segments:
            if (index.dim, index.spec.metric) != (dim, metric):
                raise IndexersError(
                    f"a segment has {index.dim} dimensions and metric {index.spec.metric}; this index has {dim} and "
                    f"{metric}. Build the segment again."
                )
            # An index promises no order of its rows, and they are looked up by bisection here.
            new = Segment(index, np.sort(index.rows), np.empty(0, dtype=np.int64))
            held = (*(older.with_hidden(new.rows) for older in held), new)
        self.dim = dim
        self.metric = metric
        self._write_lock = threading.Lock()
        self._state = LiveState(held)

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Row numbers held, in no promised order."""
        state = self._state
        parts = [segment.visible for segment in state.segments]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts, *([] if state.tail is None else [state.tail.rows])])

    def __len__(self) -> int:
        """Return the number of rows held."""
        state = self._state
        return sum(map(len, state.segments)) + (0 if state.tail is None else len(state.tail))

    def add(self, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]) -> None:
        """Add n rows and their (n, dim) vectors; a row that is held already gets its new vector at once.

        Raises BadVectorsError, and changes nothing, for vectors or row numbers that cannot be used.
        """
        with self._write_lock:
            state = self._state
            tail = self._tail(state).replaced(rows, vectors)
            self._state = LiveState(tuple(segment.with_hidden(as_rows(rows)) for segment in state.segments), tail)

    def remove(self, rows: Shaped[np.ndarray, "..."]) -> None:
        """Remove rows at once; rows that are not held are ignored."""
        gone = as_rows(rows)
        with self._write_lock:
            state = self._state
            tail = None if state.tail is None else state.tail.without(gone)
            self._state = LiveState(tuple(segment.with_hidden(gone) for segment in state.segments), tail)

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query over all segments and the tail, as `Index.search` does."""
        state = self._state
        wanted = None if allowed is None else as_rows(allowed)
        parts = [segment.search(queries, k, wanted, search) for segment in state.segments]
        if state.tail is not None or not parts:
            parts.append(self._tail(state).search(queries, k, allowed=wanted))
        return merge_top_k(parts, k)

    def _tail(self, state: LiveState) -> "indexers.exact.ExactIndex":
        from indexers.exact import ExactIndex  # noqa: PLC0415 - torch is loaded for a tail alone

        return ExactIndex.empty(self.dim, self.metric) if state.tail is None else state.tail
