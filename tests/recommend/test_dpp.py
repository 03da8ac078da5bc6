"""The greedy choice against determinants, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.recommend.diversify import greedy_dpp


def made(seed: int, count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return rng.random(count).astype(np.float32), vectors


def by_determinants(relevance, vectors, k, diversity, window):
    """Each time the item that makes the determinant of the kernel greatest, all determinants taken anew."""
    wide = vectors.astype(np.float64)
    quality = np.exp((1 - diversity) / diversity * relevance.astype(np.float64))
    kernel = quality[:, None] * (wide @ wide.T) * quality
    chosen: list[int] = []
    for _ in range(min(k, len(relevance))):
        kept = chosen[-window:] if window else []
        ground = np.linalg.slogdet(kernel[np.ix_(kept, kept)])[1] if kept else 0.0
        gains = np.full(len(relevance), -np.inf)
        for place in set(range(len(relevance))) - set(chosen):
            with_it = [*kept, place]
            gains[place] = np.linalg.slogdet(kernel[np.ix_(with_it, with_it)])[1] - ground
        chosen.append(int(gains.argmax()))
    return chosen


@given(st.integers(0, 10_000), st.integers(1, 14), st.sampled_from([0.1, 0.5, 0.9, 1.0]), st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_each_choice_gains_the_most_of_the_determinant(seed, k, diversity, window) -> None:
    relevance, vectors = made(seed, 14, 24)
    expected = by_determinants(relevance, vectors, k, diversity, 99 if window is None else window)
    assert greedy_dpp(relevance, vectors, k, diversity, window).tolist() == expected


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 40), st.sampled_from([None, 1, 5]))
@settings(max_examples=60, deadline=None)
def test_it_chooses_each_place_once_whatever_the_vectors(seed, diversity, k, window) -> None:
    relevance, vectors = made(seed, 30, 4)
    vectors[10:20] = vectors[0]
    chosen = greedy_dpp(relevance, vectors, k, diversity, window).tolist()
    assert len(chosen) == len(set(chosen)) == min(k, 30)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_without_diversity_it_is_the_order_of_relevance(seed) -> None:
    relevance, vectors = made(seed, 30, 8)
    assert greedy_dpp(relevance, vectors, 30, 0.0).tolist() == np.argsort(-relevance, kind="stable").tolist()


@pytest.mark.parametrize("window", [None, 2])
def test_a_copy_comes_last(window) -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    relevance = np.array([1, 1, 0.9, 0.8, 0.7], dtype=np.float32)
    chosen = greedy_dpp(relevance, vectors, 5, 0.5, window).tolist()
    assert chosen[:3] == [0, 2, 3]
    assert chosen.index(1) == (4 if window is None else 3)


def test_a_window_forgets() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    relevance = np.array([1, 1, 0.5, 0.1], dtype=np.float32)
    assert greedy_dpp(relevance, vectors, 3, 0.3, 1).tolist() == [0, 2, 1]
    assert greedy_dpp(relevance, vectors, 3, 0.3).tolist() == [0, 2, 3]
