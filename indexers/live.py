"""A live index: immutable segments, an exact tail for additions, and a mask for removals, searched as one."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from indexers.protocol import BadVectorsError, Index, IndexersError, Matches, Metric, Neighbours
from indexers.vectors import NO_ROW, as_rows, as_vectors, chunk_rows, contains, merge, ranked

Fetch = Callable[[Int64[np.ndarray, " n"]], Shaped[np.ndarray, "..."]]

PAIRS_AT_ONCE = 1 << 22

ROUNDING = 2.0**-22
"""Four times the relative rounding of one float32 operation; a sum of n products takes n of them."""

TINY = 1e-36
"""What n products may lose below the smallest float32."""

Piece = tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float[np.ndarray, " m"]]
"""Query, row number and score of each match."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorSource:
    """Rows, and how to get their vectors.

    Attributes:
        rows: Row numbers to look among.
        fetch: Returns (n, dim) vectors of n of them.

    """

    rows: Int64[np.ndarray, " n"]
    fetch: Fetch


def within(
    queries: Float32[np.ndarray, "q dim"], least: float, metric: Metric, source: VectorSource
) -> Iterator[Piece]:
    """Yield all matches, a bounded piece of the vectors at a time."""
    dim = queries.shape[1]
    step = min(chunk_rows(dim), max(1, PAIRS_AT_ONCE // max(1, len(queries))))
    for start in range(0, len(source.rows), step):
        rows = source.rows[start : start + step]
        vectors = as_vectors(source.fetch(rows), dim, metric, "stored vectors")
        which, places = np.nonzero(_may_reach(queries, vectors, least, metric))
        for begin in range(0, len(which), chunk_rows(dim)):
            some = slice(begin, begin + chunk_rows(dim))
            scores = _scores(queries[which[some]], vectors[places[some]], metric)
            kept = scores >= least
            yield which[some][kept], rows[places[some]][kept], scores[kept]


def gathered(pieces: Iterator[Piece], queries: int, limit: int) -> Matches:
    """Put matches in order: by query, best first, equal scores by lower row number.

    Raises:
        IndexersError: There are more than `limit` of them.

    """
    found: list[Piece] = []
    count = 0
    for piece in pieces:
        count += len(piece[0])
        if count > limit:
            raise IndexersError(
                f"more than {limit:,} rows score as high as was asked. Raise the score, ask fewer queries at once, "
                "or raise the limit."
            )
        found.append(piece)
    empty: Piece = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    which, rows, scores = (np.concatenate(parts) for parts in zip(empty, *found, strict=True))
    order = np.lexsort((rows, -scores, which))
    starts = np.searchsorted(which[order], np.arange(queries + 1))
    return Matches(starts, rows[order], scores[order].astype(np.float32))


def _may_reach(
    queries: Float32[np.ndarray, "q dim"], vectors: Float32[np.ndarray, "n dim"], least: float, metric: Metric
) -> np.ndarray:
    """Tell which pairs reach the mark as far as float32 can say."""
    dots = queries @ vectors.T
    lengths = _norms(queries)[:, None], _norms(vectors)[None]
    rounding = (queries.shape[1] + 8) * ROUNDING
    if metric != "l2":
        return np.asarray(dots >= least - rounding * lengths[0] * lengths[1] - TINY)
    if least > 0:
        return np.zeros(dots.shape, dtype=np.bool_)
    squares = lengths[0] ** 2 + lengths[1] ** 2 - 2.0 * dots
    return np.asarray(squares <= least**2 * (1 + rounding) + rounding * (lengths[0] + lengths[1]) ** 2 + TINY)


def _norms(vectors: Float32[np.ndarray, "n dim"]) -> Float[np.ndarray, " n"]:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def _scores(
    queries: Float32[np.ndarray, "m dim"], vectors: Float32[np.ndarray, "m dim"], metric: Metric
) -> Float[np.ndarray, " m"]:
    one, other = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return -np.sqrt(np.square(one - other).sum(axis=1))
    return (one * other).sum(axis=1)


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


if TYPE_CHECKING:
    import indexers.exact


RANGE_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything one search sees; there is no tail, and no torch loaded, before the first row is added."""

    segments: tuple[Segment, ...]
    tail: "indexers.exact.ExactIndex | None" = None


class LiveIndex:
    """Rows and vectors that can be added, replaced, removed and searched at the same time, from any thread."""

    def __init__(
        self,
        dim: int,
        metric: Metric,
        segments: Sequence[Index] = (),
        *,
        stored: Callable[[Int64[np.ndarray, " n"]], Shaped[np.ndarray, "..."]] | None = None,
    ) -> None:
        """Start from immutable segments, oldest first: a row held by several counts in the last one.

        Args:
            dim: Length of a vector.
            metric: How vectors are compared.
            segments: Indexes of that length and metric.
            stored: Returns (n, dim) vectors of n rows of the segments, as the caller stores them; without it vectors
                are what the segments hold, decoded where they hold codes.

        Raises:
            IndexersError: A segment of another length or metric.

        """
        for index in segments:
            if (index.dim, index.spec.metric) != (dim, metric):
                raise IndexersError(
                    f"a segment has {index.dim} dimensions and metric {index.spec.metric}; this index has {dim} and "
                    f"{metric}. Build the segment again."
                )
        self._write_lock = threading.Lock()
        held: tuple[Segment, ...] = ()
        for index in segments:
            new = Segment.of(index)
            held = (*(older.hiding(new.rows) for older in held), new)
        self._dim = dim
        self._metric = metric
        self._stored = stored
        self._state = State(held)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._metric

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Row numbers held, in no promised order."""
        state = self._state
        parts = [segment.visible for segment in state.segments]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts, *([] if state.tail is None else [state.tail.rows])])

    def __len__(self) -> int:
        """Return the number of rows held."""
        state = self._state
        return sum(len(segment) for segment in state.segments) + (0 if state.tail is None else len(state.tail))

    def add(self, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]) -> None:
        """Add rows; where a row is held already, its new vector replaces the old one at once.

        Args:
            rows: n row numbers, each once.
            vectors: (n, dim) finite real numbers.

        Raises:
            BadVectorsError: Vectors or row numbers that cannot be used; nothing was changed.

        """
        with self._write_lock:
            state = self._state
            tail = self._tail(state).replaced(rows, vectors)
            self._state = State(tuple(segment.hiding(as_rows(rows)) for segment in state.segments), tail)

    def remove(self, rows: Shaped[np.ndarray, "..."]) -> None:
        """Remove rows at once; rows that are not held are ignored."""
        gone = as_rows(rows)
        with self._write_lock:
            state = self._state
            tail = None if state.tail is None else state.tail.without(gone)
            self._state = State(tuple(segment.hiding(gone) for segment in state.segments), tail)

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query, over all segments and the tail.

        Args:
            queries: (q, dim) finite real numbers.
            k: Neighbours per query; where fewer rows exist, row -1 and score -inf fill up.
            allowed: Row numbers to search among; unknown ones are ignored.
            search: Search parameters for this call alone, passed on to the segments.

        Raises:
            BadVectorsError: Queries of another length, kind or not finite; k below 1.
            IndexersError: A search parameter that a segment does not have.

        """
        state = self._state
        wanted = None if allowed is None else as_rows(allowed)
        parts = [segment.search(queries, k, wanted, search) for segment in state.segments]
        if state.tail is not None or not parts:
            parts.append(self._tail(state).search(queries, k, allowed=wanted))
        return merge(parts, k)

    def search_range(
        self,
        queries: Shaped[np.ndarray, "..."],
        least: float,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        limit: int = RANGE_LIMIT,
    ) -> Matches:
        """Return all rows that score at least so much: exactly, as each is compared; in time of an exact search.

        Args:
            queries: (q, dim) finite real numbers.
            least: The lowest score that counts; under Euclidean distance minus the longest distance.
            allowed: Row numbers to search among; unknown ones are ignored.
            limit: The most rows that all queries together may find.

        Raises:
            BadVectorsError: Queries of another length, kind or not finite; a score that is not a number.
            IndexersError: More rows than the limit.

        """
        if np.isnan(least):
            raise BadVectorsError("the least score is NaN; give a number.")
        prepared = as_vectors(queries, self._dim, self._metric, "queries")
        wanted = None if allowed is None else np.unique(as_rows(allowed))
        sources = self._sources(self._state)
        if wanted is not None:
            sources = [replace(source, rows=source.rows[contains(wanted, source.rows)]) for source in sources]
        pieces = chain.from_iterable(within(prepared, least, self._metric, source) for source in sources)
        return gathered(pieces, len(prepared), limit)

    def reconstruct(self, rows: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n dim"]:
        """Return vectors by row number: as stored by the caller, or as added since; unit vectors under cosine.

        Raises:
            BadVectorsError: A row number that is not held.

        """
        wanted = as_rows(rows)
        vectors = np.zeros((len(wanted), self._dim), dtype=np.float32)
        missing = np.ones(len(wanted), dtype=np.bool_)
        for source in self._sources(self._state):
            here = np.flatnonzero(contains(source.rows, wanted))
            if here.size:
                vectors[here] = as_vectors(source.fetch(wanted[here]), self._dim, self._metric, "stored vectors")
                missing[here] = False
        if missing.any():
            raise BadVectorsError(f"row {wanted[missing][0]} is not held here; ask for rows that are.")
        return vectors

    def _sources(self, state: State) -> list[VectorSource]:
        """Return where the vectors of all rows that count are."""
        sources = [VectorSource(each.visible, self._stored or each.index.vectors_of) for each in state.segments]
        if state.tail is not None:
            sources.append(VectorSource(state.tail.rows, state.tail.vectors_of))
        return sources

    def _tail(self, state: State) -> "indexers.exact.ExactIndex":
        from indexers.exact import ExactIndex  # noqa: PLC0415 - torch is loaded for a tail alone

        return ExactIndex.empty(self._dim, self._metric) if state.tail is None else state.tail
