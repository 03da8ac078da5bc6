"""Recall of an index against exact search, and the smallest search parameters that reach a target recall."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Float32, Int64

from indexers.protocol import Index, Metric
from indexers.vectors import as_vectors, find_rows

SAMPLE = 200
NEIGHBOURS = 10
TARGET = 0.95
"""Target recall."""

ROWS_PER_PIECE = 16_384

TIE = 1e-4
"""Scores closer than this are a tie."""

DOUBLINGS = 6
"""How often effort is doubled in search of the target: beyond 64 times as much, exact search is as quick."""


@dataclass(frozen=True, slots=True)
class Recall:
    """How an index answers a sample of its own vectors.

    Attributes:
        self_query: Share of the sample whose best hit scores at least as high as the vector itself.
        recall: Share of the ten nearest by exact search that are found.

    """

    self_query: float
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class RecallSample:
    """Some of the vectors of an index as queries, prepared for the metric, with how near their nearest are.

    `rows` are ascending, and `vectors` (which may be a memory map) in their order. `own` is each query's score against
    itself, `least` that of its last true neighbour, of `k`.
    """

    rows: Int64[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n dim"]
    metric: Metric
    queries: Float32[np.ndarray, "q dim"]
    own: Float32[np.ndarray, " q"]
    least: Float32[np.ndarray, " q"]
    k: int

    @classmethod
    def of(
        cls, rows: Int64[np.ndarray, " n"], vectors: Float[np.ndarray, "n dim"], metric: Metric, seed: int = 0
    ) -> Self:
        """Draw a sample and search it exactly, a piece of the vectors in memory at a time."""
        count, k = min(SAMPLE, len(rows)), min(NEIGHBOURS, len(rows))
        places = np.sort(np.random.default_rng(seed).choice(len(rows), size=count, replace=False))
        queries = as_vectors(vectors[places], vectors.shape[1], metric)
        own = _scores(queries[:, None], queries[:, None], metric)[:, 0]
        return cls(rows, vectors, metric, queries, own, _kth_best(queries, vectors, metric, k), k)

    @classmethod
    def of_queries(
        cls,
        rows: Int64[np.ndarray, " n"],
        vectors: Float[np.ndarray, "n dim"],
        metric: Metric,
        queries: Float32[np.ndarray, "q dim"],
    ) -> Self:
        """Search other queries exactly than the vectors themselves; their share of self-queries found is always 1."""
        k = min(NEIGHBOURS, len(rows))
        prepared = as_vectors(queries, vectors.shape[1], metric)
        own = np.full(len(queries), -np.inf, dtype=np.float32)
        return cls(rows, vectors, metric, prepared, own, _kth_best(prepared, vectors, metric, k), k)

    def measure(self, index: Index, search: Mapping[str, int] | None = None) -> Recall:
        """Search an index of these rows and vectors, with its own search parameters or others."""
        if not len(self.queries):
            return Recall(1.0, 1.0)
        found = index.search(self.queries, self.k, search=search).rows
        near = as_vectors(self.vectors[find_rows(self.rows, found).reshape(-1)], self.vectors.shape[1], self.metric)
        # An index's own scores may be rounded as its codes are.
        scores = _scores(self.queries[:, None], near.reshape(*found.shape, -1), self.metric)
        scores = np.where(found >= 0, scores, np.float32(-np.inf))
        own = float(np.mean(scores[:, 0] >= self.own - TIE))
        return Recall(own, float(np.mean(scores >= self.least[:, None] - TIE)))


def tuned(index: Index, sample: RecallSample, target: float = TARGET) -> Index:
    """Return the index with the least effort, doubled step by step, that finds a share of the sample's true nearest.

    Where 64 times the effort does not, it is returned with the effort that finds most. An index without search
    parameters is returned as it is.
    """
    best, most = index, -1.0
    for step in range(DOUBLINGS + 1):
        effort = {name: value << step for name, value in index.effort.items()}
        found = sample.measure(index, effort).recall
        if found > most:
            best, most = index if step == 0 else index.with_effort(effort), found
        if found >= target or not effort:
            break
    return best


def _scores(
    queries: Float32[np.ndarray, "q 1 dim"], near: Float32[np.ndarray, "q m dim"], metric: Metric
) -> Float32[np.ndarray, "q m"]:
    """Scores of each query against its own m vectors."""
    if metric == "l2":
        return -np.linalg.norm(queries - near, axis=2)
    return np.einsum("qod,qmd->qm", queries, near)


def _kth_best(
    queries: Float32[np.ndarray, "q dim"], vectors: Float[np.ndarray, "n dim"], metric: Metric, k: int
) -> Float32[np.ndarray, " q"]:
    """The k-th highest exact score of each query."""
    best = np.full((len(queries), max(k, 1)), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), ROWS_PER_PIECE):
        piece = as_vectors(vectors[start : start + ROWS_PER_PIECE], vectors.shape[1], metric)
        products = queries @ piece.T
        if metric == "l2":
            squares = np.square(queries).sum(1)[:, None] + np.square(piece).sum(1) - 2 * products
            products = -np.sqrt(np.maximum(squares, 0))
        best = np.partition(np.concatenate([best, products], axis=1), -k, axis=1)[:, -k:]
    return best.min(axis=1)
