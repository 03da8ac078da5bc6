"""Approximate recipes against exact search, on vectors that cluster as embeddings do."""

import numpy as np
import pytest

from indexers import IndexSpec, build

K = 10


def recall(found, truth):
    return np.mean([len(set(one) & set(other)) / K for one, other in zip(found.rows, truth.rows, strict=True)])


RECIPES = {
    "HNSW32,Flat": {"efSearch": 64},
    "HNSW32,SQ8": {"efSearch": 64},
    "IVF,Flat": {},
    "IVF256,SQ8": {"nprobe": 8},
    "IVF,PQ8,RFlat": {"k_factor": 24},
    "IVF,PQ48x4fs,RFlat": {},
    "IVF,PQ48x4fs,Refine(SQ8)": {},
    "PQ48x4fs,RFlat": {},
}


@pytest.fixture(scope="module", params=RECIPES)
def pair(request, clustered):
    vectors, queries, labels = clustered(20_000, 96)
    rows = np.random.default_rng(3).permutation(1_000_000)[:20_000]
    index = build(IndexSpec(request.param, "cosine", RECIPES[request.param]), rows, vectors)
    return index, build(IndexSpec("Exact", "cosine"), rows, vectors), rows, queries, labels


def test_unfiltered(pair):
    index, exact, _, queries, _ = pair
    assert recall(index.search(queries, K), exact.search(queries, K)) >= 0.95


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["random", "clusters"])
@pytest.mark.parametrize("scale", [None, 2])
def test_filtered(pair, share, kind, scale, monkeypatch):
    """By the measured rule, and with exact search held back so that the index itself answers from 10% on."""
    index, exact, rows, queries, labels = pair
    if scale is not None:
        monkeypatch.setattr(type(index.family), "exact_scale", scale)
    count = int(share * len(rows))
    chosen = np.random.default_rng(4).permutation(len(rows)) if kind == "random" else np.argsort(labels, kind="stable")
    allowed = rows[chosen[:count]]
    found = index.search(queries, K, allowed=allowed)
    assert np.isin(found.rows, allowed).all()
    assert recall(found, exact.search(queries, K, allowed=allowed)) >= 0.95


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_inner_product_of_vectors_whose_norms_differ(clustered, spread):
    vectors, queries, _ = clustered(20_000, 64, seed=5)
    vectors = vectors * np.random.default_rng(6).lognormal(0, spread, (len(vectors), 1)).astype(np.float32)
    index = build(IndexSpec("HNSW32,Flat", "ip", {"efSearch": 64}), np.arange(20_000), vectors)
    exact = build(IndexSpec("Exact", "ip"), np.arange(20_000), vectors)
    assert recall(index.search(queries, K), exact.search(queries, K)) >= 0.95


def test_effort_travels_with_the_call(pair):
    index, exact, _, queries, _ = pair
    truth = exact.search(queries, 100)
    effort = index.family.parameters(index.native)
    low, high = (recall(index.search(queries, 100, search=dict.fromkeys(effort, level)), truth) for level in (1, 400))
    assert low < high
    again = index.search(queries, K)
    assert recall(again, exact.search(queries, K)) >= 0.95
