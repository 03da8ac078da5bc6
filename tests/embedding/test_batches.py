"""Batches lose nothing, stay within bounds, and pad little."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec.embedding.encoding import WINDOW_BATCHES, Bucket, Pending
from mmrec.encoders.protocol import Sample
from mmrec.storage.quarantine import Quarantined

BLAME = Quarantined(0, "item", "title", "")
costs = st.lists(st.integers(1, 256), max_size=400)


def filled(costs, batch_cost=256):
    bucket, batches = Bucket(batch_cost), []
    for number, cost in enumerate(costs):
        bucket.add(Pending(number.to_bytes(16), Sample(torch.zeros(1), cost), BLAME))
        batches.extend(bucket.full_batches())
    return batches, list(bucket.last_batches())


@given(costs)
def test_every_sample_comes_out_once(costs):
    early, late = filled(costs)
    numbers = [int.from_bytes(pending.hash) for batch in early + late for pending in batch]
    assert sorted(numbers) == list(range(len(costs)))


@given(costs)
def test_no_batch_costs_more_than_allowed_once_padded(costs):
    early, late = filled(costs)
    for batch in early + late:
        widest = max(pending.sample.cost for pending in batch)
        assert len(batch) == 1 or widest * len(batch) <= 256


@given(costs)
def test_the_window_is_bounded(costs):
    _, late = filled(costs)
    held = sum(pending.sample.cost for batch in late for pending in batch)
    assert held <= WINDOW_BATCHES * 256


@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 200))
def test_samples_of_one_cost_wait_for_a_full_batch_and_no_longer(batch_cost, cost, count):
    early, late = filled([cost] * count, batch_cost)
    full = max(1, batch_cost // cost)
    assert {len(batch) for batch in early} <= {full}
    assert sum(map(len, late)) * cost < batch_cost


def test_little_is_padded():
    generator = torch.Generator().manual_seed(0)
    costs = torch.randint(4, 256, (5000,), generator=generator).tolist()
    early, late = filled(costs, batch_cost=2048)
    padded = sum(max(p.sample.cost for p in batch) * len(batch) for batch in early + late)
    assert padded <= 1.1 * sum(costs)
