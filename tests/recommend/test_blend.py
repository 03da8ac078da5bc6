"""Seats by weight."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrec.recommend.diversify import blend

ROWS = st.lists(st.integers(0, 30), unique=True, max_size=20).map(lambda some: np.array(some, dtype=np.int64))


@given(st.lists(ROWS, max_size=4), st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(0, 90))
def test_each_row_once_and_each_list_in_its_order(lists, weights, most) -> None:
    blended = blend(lists, weights[: len(lists)], most)
    everything = {row for one in lists for row in one.tolist()}
    assert len(set(blended.rows.tolist())) == len(blended.rows) == min(most, len(everything))
    for which, rows in enumerate(lists):
        places = blended.places[blended.lists == which]
        assert all(early < late for early, late in pairwise(places.tolist()))
        assert rows[places].tolist() == blended.rows[blended.lists == which].tolist()


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 60))
def test_every_beginning_is_divided_by_weight(first, second, length) -> None:
    lists = [np.arange(100), 100 + np.arange(100)]
    blended = blend(lists, [first / (first + second), second / (first + second)], length)
    due = length * first / (first + second)
    assert abs(int((blended.lists == 0).sum()) - due) <= 1


def test_a_strong_interest_leads_and_a_weak_one_stays() -> None:
    blended = blend([np.arange(50), 50 + np.arange(50)], [0.9, 0.1], 20)
    assert blended.lists[:5].tolist() == [0] * 5
    assert 1 in blended.lists.tolist()


def test_a_list_that_is_used_up_leaves_its_seats() -> None:
    blended = blend([np.array([1]), np.array([2, 3, 4, 5])], [0.9, 0.1], 5)
    assert blended.rows.tolist() == [1, 2, 3, 4, 5]
