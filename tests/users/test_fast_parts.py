"""Fast parts beside what they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.users.networks import Dropout, spread


@given(seed=st.integers(0, 2**16), heads=st.integers(1, 3), size=st.integers(1, 5), batch=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_spread_numbers_and_their_gradient_are_those_of_indexing(seed, heads, size, batch):
    made = torch.Generator().manual_seed(seed)
    places = torch.randint(0, size, (batch, 4, 4), generator=made)
    table = torch.randn(heads, size, generator=made, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(batch, heads, 4, 4, generator=made, dtype=torch.float64)
    found = spread(table, places)
    expected = table[:, places].transpose(0, 1)
    assert torch.equal(found, expected)
    (one,) = torch.autograd.grad((found * weights).sum(), table)
    (other,) = torch.autograd.grad((expected * weights).sum(), table)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    drop = Dropout(share)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = drop(torch.ones(1001, 301))
    gone = found == 0
    assert gone.float().mean().item() == pytest.approx(share, abs=0.004)
    assert found.mean().item() == pytest.approx(1, abs=0.03)
    assert len(found[~gone].unique()) == 1
    # No pattern by which byte of a draw decides.
    for lane in range(8):
        assert gone.reshape(-1)[lane::8].float().mean().item() == pytest.approx(share, abs=0.01)
    assert drop.eval()(torch.ones(3)).tolist() == [1, 1, 1]
    assert Dropout(0)(torch.ones(3)).tolist() == [1, 1, 1]


def test_dropped_numbers_get_no_gradient():
    values = torch.ones(1000, requires_grad=True)
    found = Dropout(0.5)(values)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())
