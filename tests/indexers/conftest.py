"""The exact float64 oracle, and vectors that look like embeddings."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from indexers.protocol import Neighbours


def true_scores(queries, vectors, metric):
    q, x = np.asarray(queries, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if metric == "l2":
        return -np.linalg.norm(q[:, None] - x[None], axis=2)
    if metric == "cosine":
        q, x = (np.divide(v, n, out=np.zeros_like(v), where=n > 0) for v in (q, x) for n in [norms(v)])
    return q @ x.T


def norms(vectors):
    return np.linalg.norm(vectors, axis=1, keepdims=True)


def assert_exact(found: Neighbours, queries, k, data: SimpleNamespace, *, allowed=None, tolerance=2e-5) -> None:
    """Check rows and scores against the oracle; only rows whose true scores are within the tolerance may swap."""
    rows, vectors = np.asarray(data.rows), np.asarray(data.vectors)
    kept = np.isin(rows, allowed) if allowed is not None else np.ones(len(rows), dtype=bool)
    rows, vectors = rows[kept], vectors[kept]
    assert found.rows.shape == found.scores.shape == (len(queries), k)
    assert (found.rows.dtype, found.scores.dtype) == (np.int64, np.float32)
    there = min(k, len(rows))
    assert (found.rows[:, there:] == -1).all()
    assert np.isneginf(found.scores[:, there:]).all()
    assert np.isin(found.rows[:, :there], rows).all()
    if there == 0:
        return
    order = np.argsort(rows)
    places = order[np.searchsorted(rows[order], found.rows[:, :there])]
    scores = true_scores(queries, vectors, data.metric)
    scale = tolerance * max(1.0, float(np.abs(scores).max(initial=0)))
    for i, place in enumerate(places):
        assert len(set(place)) == there
        given = found.scores[i, :there]
        np.testing.assert_allclose(given, scores[i, place], rtol=0, atol=scale)
        assert scores[i, place].min() >= np.sort(scores[i])[-there] - 2 * scale
        assert (np.diff(given) <= 0).all()
        tied = np.diff(given) == 0
        assert (np.diff(found.rows[i, :there])[tied] > 0).all()


@pytest.fixture(scope="session")
def check() -> Callable[..., None]:
    return assert_exact


@pytest.fixture(scope="session")
def clustered() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Vectors around random centres, queries from the same distribution, and the cluster of each vector."""

    def make(n: int, dim: int, queries: int = 100, seed: int = 0):
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((n // 100, dim))
        labels = rng.integers(len(centres), size=n + queries)
        vectors = (centres[labels] + 0.6 * rng.standard_normal((n + queries, dim))).astype(np.float32)
        return vectors[:n], vectors[n:], labels[:n]

    return make
