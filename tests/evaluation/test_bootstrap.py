"""Intervals over users: against draws written out in float64, and what may be said by them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.evaluation import bootstrap
from mmrec.evaluation.bootstrap import Comparison, Interval, compare, holm, interval
from mmrec.evaluation.report import figure, signed, verdict


def oracle(values, users, draws, seed):
    """The same draws of users, the mean over all cases of who was drawn, one case at a time."""
    ids = sorted(set(users.tolist()))
    drawn = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        picked = [ids[place] for place in drawn.integers(len(ids), size=len(ids)).tolist()]
        asked = [values[0, q] for user in picked for q in np.flatnonzero(users == user)]
        means.append(np.mean(asked))
    return np.quantile(means, [0.025, 0.975])


@given(
    users=st.lists(st.integers(0, 5), min_size=2, max_size=30).filter(lambda some: len(set(some)) > 1),
    seed=st.integers(0, 9),
)
@settings(max_examples=15, deadline=None)
def test_an_interval_is_that_of_people_drawn_with_all_their_questions(users, seed):
    values = np.random.default_rng(seed).random((1, len(users)))
    found = interval(values, np.array(users), draws=40, seed=seed)
    assert (found.low, found.high) == pytest.approx(oracle(values, np.array(users), 40, seed))
    assert found.mean == pytest.approx(values.mean())
    assert (found.users, found.cases) == (len(set(users)), len(users))


def test_memory_for_draws_is_bounded_and_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    values, users = rng.random((3, 300)), rng.integers(0, 40, 300)
    whole = interval(values, users)
    monkeypatch.setattr(bootstrap, "_ROOM", 100)
    assert interval(values, users) == whole


def test_an_interval_holds_the_truth_in_19_of_20_samples():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        levels = rng.normal(0.3, 0.1, size=60)
        users = np.repeat(np.arange(60), 5)
        values = (levels[users] + rng.normal(0, 0.05, 300))[None]
        found = interval(values, users, draws=400, seed=seed)
        held += found.low <= 0.3 <= found.high
    assert 0.90 <= held / 300 <= 0.98, "three standard errors of .0126 about .94"


def test_seeds_are_drawn_too():
    users = np.arange(50)
    base = np.random.default_rng(2).random(50) * 0.01
    alike, apart = np.stack([base] * 3), np.stack([base, base + 0.3, base + 0.6])
    one, two = interval(alike, users), interval(apart, users)
    assert one == interval(base[None], users) or one.high - one.low < 0.01
    assert two.mean == pytest.approx(base.mean() + 0.3)
    assert two.high - two.low > 0.3


@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_pair_loses_what_is_hard_for_both(shift, seed):
    rng = np.random.default_rng(seed)
    values, users = rng.random((1, 80)), rng.integers(0, 20, 80)
    found = compare(("a", "b"), values + shift, values, users, draws=200)
    for end in (found.difference.mean, found.difference.low, found.difference.high):
        assert end == pytest.approx(shift, abs=1e-9)
    turned = compare(("b", "a"), values, values + shift, users, draws=200)
    assert turned.difference.mean == pytest.approx(-found.difference.mean)
    assert turned.p == found.p or abs(shift) < 1e-9
    if abs(shift) > 1e-6:
        assert found.p == pytest.approx(2 / 201)
        assert verdict(found) == ("above" if shift > 0 else "below")


def test_p_is_even_where_there_is_nothing():
    rng = np.random.default_rng(3)
    users = np.arange(100)
    ps = [compare(("a", "b"), rng.random((1, 100)), rng.random((1, 100)), users, draws=200).p for _ in range(200)]
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) < 0.05) < 0.12


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.2, "above"), (0.0, 0.2, "not below"), (-0.1, 0.1, "not below"), (-0.1, 0.0, "not below"),
     (-0.2, -0.001, "below"), (math.nan, math.nan, "too few users")],
)  # fmt: skip
def test_what_an_interval_allows_to_be_said(low, high, said):
    assert verdict(Comparison("a", "b", Interval(0.0, low, high, 9, 9), 0.5)) == said


def test_one_person_gives_no_interval_and_none_no_mean():
    one = interval(np.ones((1, 3)), np.zeros(3, dtype=np.int64))
    assert one.mean == 1
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(interval(np.ones((1, 0)), np.zeros(0, dtype=np.int64)).mean)
    with pytest.raises(UsageError, match="share no case"):
        compare(("a", "b"), np.ones((1, 0)), np.ones((1, 0)), np.zeros(0, dtype=np.int64))


def test_holm_by_hand():
    # .01 x 4, then the largest so far of .02 x 3, .03 x 2, .2 x 1.
    assert holm([0.02, 0.01, 0.2, 0.03]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([]) == []


@given(ps=st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(ps):
    found = holm(ps)
    for raw, adjusted in zip(ps, found, strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(ps))
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    assert [found[place] for place in order] == sorted(found)


def test_figures_are_short_and_honest():
    assert [figure(value) for value in (0.07154, 0.0, 1.0, 0.99999, 123.45, math.nan)] == [
        ".0715", ".0000", "1.0000", "1.0000", "123.5", "\N{EN DASH}"]  # fmt: skip
    assert [signed(value) for value in (0.01, -0.01, 0, 0.00001)] == [
        "+.0100",
        "\N{MINUS SIGN}.0100",
        ".0000",
        ".0000",
    ]
