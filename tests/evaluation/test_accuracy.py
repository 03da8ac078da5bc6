"""Metrics: equal to ranx, to the mean over all orders of what is tied, and to chance for who cannot tell."""

import itertools
import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.evaluation.metrics import METRICS, mean_rank, multi_target_metric, rank_counts, single_target_metric

# To compile ranx takes a minute; as plain Python it says the same at once. Only ranx uses numba here.
os.environ["NUMBA_DISABLE_JIT"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # escapes in its docstrings
    import ranx

RANX = {"hr": "hit_rate", "recall": "recall", "ndcg": "ndcg", "mrr": "mrr", "map": "map"}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_metrics_equal_ranx(metric, k):
    rng = np.random.default_rng(k)
    scores = rng.permuted(np.tile(np.arange(60, dtype=np.float32), (40, 1)), axis=1)
    relevant = [rng.choice(60, size=1 + line % 7, replace=False) for line in range(40)]
    run = ranx.Run({f"q{q}": {f"d{d}": float(s) for d, s in enumerate(line)} for q, line in enumerate(scores)})

    def oracle(sets):
        qrels = ranx.Qrels({f"q{q}": {f"d{d}": 1 for d in found.tolist()} for q, found in enumerate(sets)})
        return ranx.evaluate(qrels, run, f"{RANX[metric]}@{k}")

    ranks = [(scores[q] > scores[q][found][:, None]).sum(axis=1) + 1.0 for q, found in enumerate(relevant)]
    assert np.mean([multi_target_metric(metric, k, some) for some in ranks]) == pytest.approx(
        oracle(relevant), abs=1e-6
    )
    single = [found[:1] for found in relevant]
    above, tied = rank_counts(scores, scores[np.arange(len(scores)), np.concatenate(single)][:, None])
    assert single_target_metric(metric, k, above, tied).mean() == pytest.approx(oracle(single), abs=1e-6)


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=6), target=st.integers(0, 5), k=st.integers(1, 7),
    metric=st.sampled_from(METRICS),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_ties_get_the_mean_over_all_their_orders(scores, target, k, metric):
    """The oracle writes out every order of the items that the scores allow, in float64."""
    target %= len(scores)
    orders = [o for o in itertools.permutations(range(len(scores))) if all(
        scores[a] >= scores[b] for a, b in itertools.pairwise(o))]  # fmt: skip
    ranks = [order.index(target) + 1 for order in orders]
    expected = np.mean([multi_target_metric(metric, k, np.array([float(rank)])) for rank in ranks])
    above, tied = rank_counts(np.array([scores], dtype=np.float32), np.array([[scores[target]]], dtype=np.float32))
    assert single_target_metric(metric, k, above, tied)[0] == pytest.approx(expected, abs=1e-12)
    assert mean_rank(above, tied)[0] == pytest.approx(np.mean(ranks))


@pytest.mark.parametrize("items", [5, 100])
def test_a_constant_scorer_gets_chance(items):
    above, tied = rank_counts(np.zeros((3, items), dtype=np.float32), np.zeros((3, 1), dtype=np.float32))
    chance = {"hr": min(10, items) / items, "ndcg": (1 / np.log2(np.arange(2, min(10, items) + 2))).sum() / items}
    for metric, value in chance.items():
        assert single_target_metric(metric, 10, above, tied) == pytest.approx(value)
    assert mean_rank(above, tied) == pytest.approx((items + 1) / 2)


@given(
    above=st.lists(st.integers(0, 50), min_size=1, max_size=8), tied=st.integers(1, 20), k=st.integers(1, 30),
    metric=st.sampled_from(METRICS),
)  # fmt: skip
def test_laws(above, tied, k, metric):
    places, level = np.array(above), np.full(len(above), tied)
    found = single_target_metric(metric, k, places, level)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    assert (single_target_metric(metric, k + 1, places, level) >= found - 1e-12).all(), "a longer list is never worse"
    assert (single_target_metric(metric, k, places + 1, level) <= found + 1e-12).all(), "to stand lower is never better"
    assert (single_target_metric("hr", k, places, level) >= found - 1e-12).all()
    assert np.array_equal(
        single_target_metric("recall", k, places, level), single_target_metric("hr", k, places, level)
    )


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="choose one of hr"):
        single_target_metric("auc", 10, np.array([0]), np.array([1]))
    with pytest.raises(UsageError, match="at 1 or more"):
        single_target_metric("hr", 0, np.array([0]), np.array([1]))
    with pytest.raises(UsageError, match="without a target"):
        multi_target_metric("hr", 3, np.array([]))
    with pytest.raises(UsageError, match="left out of its own ranking"):
        rank_counts(np.array([[np.nan, 1]], dtype=np.float32), np.array([[np.nan]], dtype=np.float32))
