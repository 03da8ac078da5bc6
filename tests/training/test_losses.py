"""Losses against what they mean, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.training.objective import full_softmax, gbce, gbce_exponent, sampled_softmax

seeds = st.integers(0, 2**16)


def made(seed, people=5, items=9, dim=4):
    random = np.random.default_rng(seed)
    vectors = [random.normal(size=(count, dim)) for count in (people, items)]
    return *(each / np.linalg.norm(each, axis=1, keepdims=True) for each in vectors), random.integers(0, items, people)


@given(seed=seeds, scale=st.floats(0.1, 50), smoothing=st.floats(0, 0.9))
@settings(max_examples=30, deadline=None)
def test_full_softmax_is_the_cross_entropy(seed, scale, smoothing):
    people, items, targets = made(seed)
    logits = scale * people @ items.T
    log_odds = logits - np.log(np.exp(logits - logits.max()).sum(axis=1, keepdims=True)) - logits.max()
    wanted = np.full(logits.shape, smoothing / len(items))
    wanted[np.arange(len(people)), targets] += 1 - smoothing
    found = full_softmax(
        torch.from_numpy(people.astype(np.float32)),
        torch.from_numpy(items.astype(np.float32)),
        torch.from_numpy(targets),
        torch.tensor(scale),
        smoothing,
    )
    np.testing.assert_allclose(found, -(wanted * log_odds).sum(axis=1), rtol=1e-4, atol=1e-4)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_sampled_softmax_with_every_item_drawn_once_is_the_full_softmax(seed):
    people, items, targets = (torch.from_numpy(part) for part in made(seed))
    logits = 7 * people @ items.T
    positive = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    same = torch.arange(len(items)) == targets.unsqueeze(1)
    found = sampled_softmax(positive, logits, torch.zeros(len(items), dtype=torch.float64), same)
    expected = full_softmax(people, items, targets, torch.tensor(7.0, dtype=torch.float64))
    torch.testing.assert_close(found, expected)


def test_the_odds_of_drawing_are_made_up_for():
    """Over many draws from uneven odds, the estimated sum over the other items has the true one as its mean."""
    people, items, targets = (torch.from_numpy(part) for part in made(3, people=4))
    odds = torch.linspace(1, 9, len(items), dtype=torch.float64) / 45
    logits = 3 * people @ items.T
    positive = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.multinomial(odds, 200_000, replacement=True)
    same = drawn == targets.unsqueeze(1)
    found = sampled_softmax(positive, logits[:, drawn], (odds[drawn] * len(drawn)).log(), same)
    expected = full_softmax(people, items, targets, torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)


@given(seed=seeds, exponent=st.floats(0.01, 1))
@settings(max_examples=20, deadline=None)
def test_gbce_is_binary_cross_entropy_with_an_exponent(seed, exponent):
    random = np.random.default_rng(seed)
    positive, negative, same = random.normal(size=6), random.normal(size=(6, 4)), random.random((6, 4)) < 0.3
    odds = 1 / (1 + np.exp(-positive)), 1 / (1 + np.exp(-negative))
    expected = -exponent * np.log(odds[0]) - (np.log(1 - odds[1]) * ~same).sum(axis=1)
    found = gbce(torch.from_numpy(positive), torch.from_numpy(negative), torch.from_numpy(same), exponent)
    np.testing.assert_allclose(found, expected)


def test_the_exponent_goes_from_one_to_the_rate_of_drawing():
    assert gbce_exponent(10, 100, 0) == pytest.approx(1)
    assert gbce_exponent(10, 100, 1) == pytest.approx(0.1)
    assert gbce_exponent(1000, 100, 0.5) == pytest.approx(1)
    assert 0.1 < gbce_exponent(10, 100, 0.5) < 1


def test_a_gradient_of_zero_targets_is_none():
    people, items = torch.zeros(0, 4, requires_grad=True), torch.randn(9, 4)
    full_softmax(people, items, torch.zeros(0, dtype=torch.int64), torch.tensor(1.0)).sum().backward()
    assert people.grad is not None
