"""Validation ranks against a sort, for NumPy arrays and tensors, and the gain of a rank."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.made import ROWS, contents, histories_of
from users.towers import CONTENT, small_tower

from mmrec.evaluation.metrics import discounted_gain, mean_rank, rank_counts
from mmrec.training.validation import ValidationRanking
from mmrec.training.windows import TowerEvents


@given(seed=st.integers(0, 2**16), levels=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_ranks_are_those_of_a_sort_with_ties_at_their_mean(seed, levels):
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (4, 11)).astype(np.float32)
    targets = random.integers(0, 11, 4)
    own = scores[np.arange(4), targets][:, None]
    scores[(random.random((4, 11)) < 0.3) & (np.arange(11) != targets[:, None])] = np.nan
    found = mean_rank(*rank_counts(scores, own))
    tensors = mean_rank(*(some.numpy() for some in rank_counts(torch.from_numpy(scores), torch.from_numpy(own))))
    assert found.tolist() == tensors.tolist()
    for row in range(4):
        there = scores[row][~np.isnan(scores[row])].tolist()
        places = [place for place, score in enumerate(sorted(there, reverse=True), start=1) if score == own[row, 0]]
        assert found[row] == np.mean(places)


def test_a_constant_scorer_gets_no_more_than_chance():
    found = mean_rank(*rank_counts(np.zeros((1, 101)), np.zeros((1, 1))))
    assert found[0] == 51
    assert discounted_gain(found, 10) == 0


def test_users_without_events_are_ranked_by_chance():
    histories = histories_of([ROWS[[1, 2, 3]]])
    events = TowerEvents.of(histories, ROWS, ("view",), {})
    tower = small_tower(rows=ROWS, dim=8)
    ranking = ValidationRanking(events, np.array([0, 2]), ROWS, torch.from_numpy(contents(size=CONTENT)))
    first, later = ranking.ranks(tower)
    assert first == (1 + len(ROWS)) / 2
    assert later == round(later)
    among = np.isin(np.arange(len(ROWS)), [3, 4, 5])
    fewer = replace(ranking, among=among).ranks(tower)
    assert fewer[0] == 2.5
    assert 1 <= fewer[1] <= 3


def test_the_gain_is_what_its_formula_says():
    gains = discounted_gain(np.array([1.0, 3.0, 10.0, 10.5, np.inf]), 10)
    assert gains.mean() == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 5)
    assert not len(discounted_gain(np.empty(0), 10))
