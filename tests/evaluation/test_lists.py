"""What lists are like: each figure against its formula written out in float64."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.evaluation.diversity_curve import coverage, gini, intra_list_diversity, novelty, popularity, serendipity
from mmrec.evaluation.model_metrics import divergence, miscalibration, slices

ITEMS, K = 9, 4
lists = st.lists(
    st.lists(st.integers(0, ITEMS - 1), max_size=K, unique=True).map(lambda some: some + [-1] * (K - len(some))),
    min_size=1, max_size=6,
).map(np.array)  # fmt: skip
counts = st.lists(st.integers(0, 50), min_size=ITEMS, max_size=ITEMS).map(np.array)
seeds = st.integers(0, 99)


def vectors_of(seed):
    made = np.random.default_rng(seed).normal(size=(ITEMS, 3)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made[0] = 0  # an item without content
    return made


@given(shown=lists, met=counts)
def test_means_over_a_list(shown, met):
    share = (met + 1) / (met + 1).sum()
    for found, values in ((popularity(shown, met), met), (novelty(shown, met), -np.log2(share))):
        for line, one in zip(shown.tolist(), found, strict=True):
            there = [values[item] for item in line if item >= 0]
            assert one == pytest.approx(np.mean(there)) if there else np.isnan(one)


@given(shown=lists, seed=seeds)
def test_diversity_is_the_mean_over_all_pairs(shown, seed):
    vectors = vectors_of(seed)
    shorter = vectors * np.random.default_rng(seed).uniform(0.3, 1, (ITEMS, 1)).astype(np.float32)
    for line, found in zip(shown.tolist(), intra_list_diversity(shown, shorter), strict=True):
        pairs = list(itertools.combinations([vectors[item].astype(np.float64) for item in line if item >= 0], 2))
        assert found == pytest.approx(np.mean([1 - a @ b for a, b in pairs]), abs=1e-5) if pairs else np.isnan(found)


@given(shown=lists)
def test_coverage_and_gini(shown):
    times = [int((shown == item).sum()) for item in range(ITEMS)]
    assert coverage(shown, ITEMS) == pytest.approx(np.mean([n > 0 for n in times]))
    apart = sum(abs(a - b) for a in times for b in times)
    expected = apart / (2 * ITEMS * sum(times)) if sum(times) else 0
    assert gini(shown, ITEMS) == pytest.approx(expected)


@given(shown=lists, obvious=lists, seed=seeds)
def test_serendipity_is_to_be_right_where_popularity_is_not(shown, obvious, seed):
    some = min(len(shown), len(obvious))
    targets = np.random.default_rng(seed).integers(0, ITEMS, some)
    found = serendipity(shown[:some], targets, obvious[:some])
    for line in range(some):
        assert found[line] == (targets[line] in shown[line] and targets[line] not in obvious[line])
    assert serendipity(shown[:some], targets, shown[:some]).sum() == 0


def shares_of(seed):
    rng = np.random.default_rng(seed)
    made = (rng.random((ITEMS, 3)) * rng.integers(0, 2, (ITEMS, 3))).astype(np.float32)
    return made / np.maximum(made.sum(axis=1, keepdims=True), 1e-9)


@given(shown=lists, seed=seeds, how=st.sampled_from(["kl", "js"]))
@settings(deadline=None)
def test_miscalibration_compares_the_list_with_the_past(shown, seed, how):
    shares = shares_of(seed)
    weights = np.random.default_rng(seed + 1).integers(-1, 3, (len(shown), ITEMS)).astype(np.float32)
    found = miscalibration(shown, sp.csr_array(weights), shares, how)
    for line, one in enumerate(found):
        p = np.maximum(weights[line], 0).astype(np.float64) @ shares
        q = shares[[item for item in shown[line] if item >= 0]].sum(axis=0, dtype=np.float64)
        if not p.sum() or not q.sum():
            assert np.isnan(one)
            continue
        p, q = p / p.sum(), q / q.sum()
        kl = lambda a, b: sum(x * np.log2(x / y) for x, y in zip(a, b, strict=True) if x > 0)  # noqa: E731
        middle = (p + q) / 2
        expected = kl(p, 0.99 * q + 0.01 * p) if how == "kl" else (kl(p, middle) + kl(q, middle)) / 2
        assert one == pytest.approx(expected, abs=1e-6)
        assert one >= -1e-9
        assert how == "kl" or one <= 1 + 1e-9


def test_a_list_like_the_past_is_calibrated():
    p = np.array([[0.2, 0.8], [1, 0]])
    assert divergence(p, p, "js") == pytest.approx([0, 0])
    assert divergence(p, p, "kl") == pytest.approx([0, 0])
    assert divergence(np.array([[1.0, 0]]), np.array([[0.0, 1]]), "js") == pytest.approx(1)


@given(values=st.lists(st.integers(0, 200), max_size=30).map(lambda some: np.array(some, dtype=np.int64)))
def test_slices_part_the_questions(values):
    parts = slices(values, (0, 1, 3, 5, 100))
    assert list(parts) == ["0", "1-2", "3-4", "5-99", "100+"]
    assert (np.sum([*parts.values()], axis=0) == 1).all()
    assert values[parts["3-4"]].tolist() == [value for value in values.tolist() if 3 <= value <= 4]
