"""Ranks against a sort in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.made import ROWS, contents, histories_of
from users.towers import CONTENT, small_tower

from mmrec.training.train import Ranking, mean_ndcg, mid_ranks
from mmrec.training.windows import Events


@given(seed=st.integers(0, 2**16), levels=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_ranks_are_those_of_a_sort_with_ties_at_their_mean(seed, levels):
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (4, 11)).astype(np.float32)
    left_out, targets = random.random((4, 11)) < 0.3, random.integers(0, 11, 4)
    found = mid_ranks(torch.from_numpy(scores), torch.from_numpy(targets), torch.from_numpy(left_out))
    for row in range(4):
        there = [item for item in range(11) if item == targets[row] or not left_out[row, item]]
        own = scores[row, targets[row]]
        places = [
            place for place, score in enumerate(sorted(scores[row, there], reverse=True), start=1) if score == own
        ]
        assert found[row] == np.mean(places)


def test_a_constant_scorer_gets_no_more_than_chance():
    found = mid_ranks(torch.zeros(1, 101), torch.tensor([0]), torch.zeros(1, 101, dtype=torch.bool))
    assert found[0] == 51
    assert mean_ndcg(found) == 0


def test_who_has_done_nothing_is_ranked_by_chance():
    histories = histories_of([ROWS[[1, 2, 3]]])
    events = Events.of(histories, ROWS, ("view",), {})
    tower = small_tower(rows=ROWS, dim=8)
    asked = Ranking(events, np.array([0, 2]), ROWS, torch.from_numpy(contents(size=CONTENT)))
    first, later = asked.ranks(tower)
    assert first == (1 + len(ROWS)) / 2
    assert later == round(later)
    among = np.isin(np.arange(len(ROWS)), [3, 4, 5])
    fewer = replace(asked, among=among).ranks(tower)
    assert fewer[0] == 2.5
    assert 1 <= fewer[1] <= 3


def test_ndcg_is_what_its_formula_says():
    assert mean_ndcg(np.array([1.0, 3.0, 10.0, 10.5, np.inf])) == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 5)
    assert mean_ndcg(np.empty(0)) == 0
