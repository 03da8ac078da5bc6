"""The losses against their definitions in float64, one pair at a time, and the laws they keep."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning.losses import HardNegatives, Temperature, infonce, siglip, supcon


def units(random, *shape):
    vectors = random.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def made(seed, n=7, h=3, dim=5):
    """Vectors, hard ones, and which share a content; always some that do."""
    random = np.random.default_rng(seed)
    keys = random.integers(0, n - 1, (2, n))
    same = (keys[:, :, None] == keys[:, None, :]).any(axis=0)
    hard_same = random.random((2, n, h)) < 0.3
    return units(random, n, dim), units(random, n, dim), same, units(random, 2, h, dim), hard_same


def hards(vectors, same):
    return tuple(HardNegatives(tensor(some), torch.tensor(which)) for some, which in zip(vectors, same, strict=True))


def log_softmax_oracle(own, others):
    return math.log(math.exp(own) + sum(math.exp(other) for other in others)) - own


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("corrected", [False, True])
def test_infonce_is_its_definition(seed, corrected):
    left, right, same, hard, hard_same = made(seed)
    n, scale = len(left), 3.0
    odds = np.log(np.random.default_rng(seed).dirichlet(np.ones(n), 2)) if corrected else np.zeros((2, n))
    expected = []
    for i in range(n):
        ways = []
        for asking, asked, more, shared, q in (
            (left, right, hard[0], hard_same[0], odds[1]),
            (right, left, hard[1], hard_same[1], odds[0]),
        ):
            others = [scale * asking[i] @ asked[j] - q[j] for j in range(n) if j != i and not same[i, j]]
            others += [scale * asking[i] @ more[j] for j in range(len(more)) if not shared[i, j]]
            ways.append(log_softmax_oracle(scale * asking[i] @ asked[i] - q[i], others))
        expected.append(sum(ways) / 2)
    found = infonce(
        tensor(left),
        tensor(right),
        torch.tensor(scale),
        torch.tensor(same),
        hard=hards(hard, hard_same),
        log_odds=(tensor(odds[0]), tensor(odds[1])) if corrected else None,
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_siglip_is_its_definition(seed):
    left, right, same, hard, hard_same = made(seed)
    n, scale, bias = len(left), 4.0, -2.0

    def minus_log_sigmoid(score):
        return math.log1p(math.exp(-score))

    expected = []
    for i in range(n):
        total = minus_log_sigmoid(scale * left[i] @ right[i] + bias)
        total += sum(
            minus_log_sigmoid(-(scale * left[i] @ right[j] + bias)) for j in range(n) if j != i and not same[i, j]
        )
        for side, asking in enumerate((left, right)):
            total += sum(
                minus_log_sigmoid(-(scale * asking[i] @ hard[side][j] + bias))
                for j in range(hard.shape[1])
                if not hard_same[side][i, j]
            )
        expected.append(total)
    found = siglip(
        tensor(left),
        tensor(right),
        torch.tensor(scale),
        torch.tensor(bias),
        torch.tensor(same),
        hard=hards(hard, hard_same),
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_supcon_is_its_definition(seed):
    random = np.random.default_rng(seed)
    vectors, labels, keys = units(random, 9, 5), random.integers(0, 3, 9), random.integers(0, 8, 9)
    scale = 5.0
    expected = []
    for i in range(9):
        others = [j for j in range(9) if keys[j] != keys[i]]
        partners = [j for j in others if labels[j] == labels[i]]
        scores = {j: scale * vectors[i] @ vectors[j] for j in others}
        below = math.log(sum(math.exp(score) for score in scores.values()))
        expected.append(-sum(scores[j] - below for j in partners) / max(1, len(partners)))
    same = torch.tensor(keys[:, None] == keys)
    found = supcon(tensor(vectors), torch.tensor(labels), torch.tensor(scale), same)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_supcon_of_nothing_but_one_content_is_zero_and_has_gradients():
    vectors = torch.ones(3, 4, requires_grad=True)
    loss = supcon(vectors, torch.zeros(3, dtype=torch.int64), torch.tensor(2.0), torch.ones(3, 3, dtype=torch.bool))
    loss.sum().backward()
    assert torch.equal(loss.detach(), torch.zeros(3))
    assert torch.equal(vectors.grad, torch.zeros(3, 4))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(7)))
def test_the_order_of_a_batch_and_its_sides_do_not_matter(seed, order):
    left, right, same, *_ = made(seed)
    scale, bias = torch.tensor(3.0), torch.tensor(-1.0)
    left, right, same, order = tensor(left), tensor(right), torch.tensor(same), list(order)
    mixed = (left[order], right[order])
    shuffled = same[order][:, order]
    for loss in (
        lambda a, b, shared: infonce(a, b, scale, shared),
        lambda a, b, shared: siglip(a, b, scale, bias, shared),
    ):
        torch.testing.assert_close(loss(*mixed, shuffled), loss(left, right, same)[order])
        torch.testing.assert_close(loss(right, left, same).sum(), loss(left, right, same).sum())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_a_duplicate_is_never_pushed_away(seed):
    """The gradient of a pair's loss by a duplicate's vectors is zero."""
    left, right, same, *_ = made(seed)
    for loss in (
        lambda a, b: infonce(a, b, torch.tensor(3.0), torch.tensor(same)),
        lambda a, b: siglip(a, b, torch.tensor(3.0), torch.tensor(-1.0), torch.tensor(same)),
    ):
        a, b = tensor(left).requires_grad_(), tensor(right).requires_grad_()
        loss(a, b)[0].backward()
        shared = same[0].copy()
        shared[0] = False
        assert not b.grad[torch.tensor(shared)].any()
        others = ~same[0]
        assert b.grad[torch.tensor(others)].any() == others.any()


def test_the_temperature_is_held():
    temperature = Temperature(10.0, -10.0)
    assert temperature.scale.item() == pytest.approx(10)
    assert {name for name, _ in temperature.named_parameters()} == {"log_scale", "bias"}
    with torch.no_grad():
        temperature.log_scale.fill_(9.0)
    assert temperature.scale.item() == 100
