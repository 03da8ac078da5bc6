"""Measuring recall, and searching as hard as it takes."""

import numpy as np
import pytest

from indexers import IndexSpec, build, load
from indexers.recall import RecallSample, tuned

ROWS = np.arange(10, 30_010)


@pytest.fixture(scope="module")
def hard():
    """Clusters so loose that a graph's usual effort misses many."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 64), dtype=np.float32)[rng.integers(200, size=len(ROWS))]
    vectors += 1.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_the_sample_agrees_with_exact_search(hard, metric):
    sample = RecallSample.of(ROWS, hard, metric)
    exact = build(IndexSpec("Exact", metric), ROWS, hard.astype(np.float32))
    found = exact.search(sample.queries, sample.k)
    np.testing.assert_allclose(found.scores[:, -1], sample.least, atol=1e-3)
    assert sample.measure(exact).recall == 1
    assert sample.measure(exact).self_query == 1


def test_an_index_of_other_vectors_is_found_out(hard):
    sample = RecallSample.of(ROWS, hard, "ip")
    wrong = build(IndexSpec("Flat"), ROWS, np.roll(hard, 1, axis=0))
    assert sample.measure(wrong).recall < 0.1
    assert sample.measure(wrong).self_query < 0.1


@pytest.mark.parametrize(
    ("factory", "effort"),
    [
        ("HNSW8,Flat", {"efSearch": 4}),
        ("IVF256,Flat", {"nprobe": 1}),
        ("IVF256,PQ8,RFlat", {"nprobe": 2, "k_factor": 1}),
    ],
)
def test_effort_is_doubled_until_enough_is_found_and_no_further(hard, factory, effort):
    sample = RecallSample.of(ROWS, hard, "ip")
    index = build(IndexSpec(factory, "ip", effort), ROWS, hard)
    better = tuned(index, sample)
    assert sample.measure(index).recall < 0.95 <= sample.measure(better).recall
    steps = {value // effort[name] for name, value in better.effort.items()}
    assert len(steps) == 1
    half = {name: max(1, value // 2) for name, value in better.effort.items()}
    assert sample.measure(index, half).recall < 0.95
    assert better.spec.search == better.effort
    assert index.spec.search == effort


@pytest.mark.parametrize("factory", ["Flat", "Exact"])
def test_what_has_nothing_to_tune_stays_as_it_is(hard, factory):
    index = build(IndexSpec(factory), ROWS, hard.astype(np.float32))
    assert tuned(index, RecallSample.of(ROWS, hard, "ip")) is index


def test_a_tuned_index_keeps_its_effort_on_disk(hard, tmp_path):
    index = build(IndexSpec("HNSW8,Flat"), ROWS, hard).with_effort({"efSearch": 99})
    digest = index.save(tmp_path / "index")
    assert load(tmp_path / "index", digest).effort == {"efSearch": 99}


def test_no_vectors():
    none = np.empty((0, 8), np.float32)
    index = build(IndexSpec("Flat"), np.empty(0, np.int64), none)
    assert RecallSample.of(np.empty(0, np.int64), none, "ip").measure(index).recall == 1
