"""How far a head may go: leaving out against fitting again, and a choice that knows what can be learned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from mmrec.finetuning import head_fitting
from mmrec.finetuning.config import FitSettings
from mmrec.finetuning.head_fitting import TARGET_SCALES, choose_target_scale, fit_head, kernel, leave_one_group_out


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(0, 5), min_size=2, max_size=12),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.05, 0.5]),
)
def test_a_group_that_is_left_out_lies_where_a_fit_without_it_puts_it(seed, groups, radial, ridge):
    random = np.random.default_rng(seed)
    rows, targets = random.normal(size=(len(groups), 4)), random.normal(size=(len(groups), 3))
    gram = kernel(torch.from_numpy(rows), radial)
    unseen, taught = leave_one_group_out(gram, torch.from_numpy(targets), np.array(groups), ridge)
    table = gram.numpy()
    for group in set(groups):
        own = np.array(groups) == group
        solved = np.linalg.solve(table[~own][:, ~own] + ridge * np.eye(int((~own).sum())), targets[~own])
        np.testing.assert_allclose(unseen[torch.from_numpy(own)], table[own][:, ~own] @ solved, atol=1e-8)
    whole = table @ np.linalg.solve(table + ridge * np.eye(len(groups)), targets)
    np.testing.assert_allclose(taught, whole, atol=1e-8)


def made(seed, count=80, noise=0.3):
    """Contents whose features tell their targets, and a start that tells little of them."""
    random = np.random.default_rng(seed)
    targets = random.normal(size=(count, 6))
    features = np.tanh(targets @ random.normal(size=(6, 16)) / 2) + noise * random.normal(size=(count, 16))
    start = targets + 2 * random.normal(size=(count, 6))
    unit = [normalize(torch.from_numpy(some.astype(np.float32)), dim=1) for some in (features, start, targets)]
    return {"features": unit[0], "start": unit[1]}, unit[2]


@pytest.mark.parametrize("seed", range(4))
def test_what_can_be_learned_is_gone_for_and_what_cannot_changes_nothing(seed):
    inputs, targets = made(seed)
    alone = np.arange(len(targets))
    fit = FitSettings()
    assert choose_target_scale(inputs, targets, alone, fit, "start") >= 1
    # A start that is right already, and features that say nothing: any step away is a loss.
    noise = {"features": made(seed + 50)[0]["features"], "start": targets}
    assert choose_target_scale(noise, targets, alone, fit, "start") == 0


@pytest.mark.parametrize("seed", range(4))
def test_copies_do_not_vouch_for_each_other(seed):
    """Each content twice: alone, a copy gives the other's answer away; together they go no further than one would."""
    random = torch.Generator().manual_seed(seed)
    targets = normalize(torch.randn(40, 6, generator=random), dim=1)
    start = normalize(targets + 2 * normalize(torch.randn(40, 6, generator=random), dim=1), dim=1)
    once = {"features": made(seed + 50, 40)[0]["features"], "start": start}
    twice = {name: torch.cat([rows, rows]) for name, rows in once.items()}
    both, fit = torch.cat([targets, targets]), FitSettings()
    together = choose_target_scale(twice, both, np.tile(np.arange(40), 2), fit, "start")
    assert together <= 1
    assert choose_target_scale(once, targets, np.arange(40), fit, "start") <= 1
    assert choose_target_scale(twice, both, np.arange(80), fit, "start") > 1


def test_the_scale_is_chosen_where_there_is_a_start_and_no_scale_given():
    inputs, targets = made(0)
    alone, fit = np.arange(len(targets)), FitSettings(radial=2.0, ridge=0.3)
    chosen = choose_target_scale(inputs, targets, alone, fit, "start")
    assert chosen in TARGET_SCALES
    head, same = (
        fit_head(inputs, targets, some, "start") for some in (fit, fit.model_copy(update={"target_scale": chosen}))
    )
    assert torch.equal(head(inputs), same(inputs))
    plain = fit_head(inputs, targets, fit)
    assert plain.config.residual is None


def test_of_many_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(head_fitting, "_MAX_VALIDATED", 50)
    inputs, targets = made(0)
    assert choose_target_scale(inputs, targets, np.arange(len(targets)), FitSettings(), "start") >= 1
