"""All rows that score at least so much, by exact comparison with every vector, a chunk at a time.

Any index can be asked, whatever FAISS can do with it: only its vectors are read. Candidates are chosen in float32 with
room for its rounding, and decided in float64, so a row is found if and only if its score in float64 reaches the mark.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from indexers.types import IndexersError, Matches, Metric
from indexers.vectors import as_vectors, chunk_rows

__all__ = ["VectorSource", "gathered", "within"]

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
