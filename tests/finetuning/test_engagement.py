"""Which items the same people take: the matrix against loops over people, and vectors that bring groups together."""

import numpy as np
import pytest
from finetuning.made_histories import MINUTE
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.finetuning.coengage import SMOOTHING, co_occurrence, ppmi_vectors

COUNT = 7
events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, COUNT - 1), st.integers(0, 300)), max_size=25)


def arrays(some):
    """Owners, items and times in the order of a log: by person, then by time."""
    ordered = sorted(some, key=lambda event: (event[0], event[2]))
    columns = [np.array([event[place] for event in ordered], dtype=np.int64) for place in range(3)]
    return columns[0], columns[1], columns[2] * MINUTE


def slow(owners, items, times, hours):
    mass = np.zeros((COUNT, COUNT))
    for one in range(len(owners)):
        others = [
            other
            for other in range(len(owners))
            if other != one
            and owners[other] == owners[one]
            and (hours is None or abs(times[other] - times[one]) <= hours * 60 * MINUTE)
        ]
        for other in others:
            mass[items[one], items[other]] += 1 / len(others)
    mass = (mass + mass.T) / 2
    np.fill_diagonal(mass, 0)
    return mass


@settings(deadline=None)
@given(events, st.sampled_from([None, 0.05, 1.0, 2.5, 100.0]))
def test_each_event_gives_one_in_equal_parts_to_the_others_of_its_person(some, hours):
    owners, items, times = arrays(some)
    found = co_occurrence(owners, items, times, COUNT, hours)
    np.testing.assert_allclose(found.toarray(), slow(owners, items, times, hours), atol=1e-12)


@settings(deadline=None)
@given(events)
def test_hours_that_hold_whole_histories_change_nothing(some):
    owners, items, times = arrays(some)
    within = co_occurrence(owners, items, times, COUNT, 1_000.0)
    np.testing.assert_allclose(within.toarray(), co_occurrence(owners, items, times, COUNT).toarray(), atol=1e-12)


@settings(deadline=None)
@given(events, st.integers(1, COUNT))
def test_vectors_are_leading_eigenvectors_of_the_positive_information(some, dim):
    mass = co_occurrence(*arrays(some), COUNT).toarray()
    taken = mass.sum(axis=1)
    chance = taken**SMOOTHING / max((taken**SMOOTHING).sum(), 1e-9)
    information = np.zeros((COUNT, COUNT))
    for one, other in zip(*np.nonzero(mass), strict=True):
        information[one, other] = max(0.0, np.log(mass[one, other] / taken[one] / chance[other]))
    information = (information + information.T) / 2
    assume(information.max() > 1e-6)
    vectors = ppmi_vectors(co_occurrence(*arrays(some), COUNT), dim)
    values = np.sort(np.linalg.eigvalsh(information))[::-1]
    wanted = values[: vectors.shape[1]]
    assert vectors.shape[1] == min(dim, int((values > 1e-9 * values[0]).sum()))
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-8)
    np.testing.assert_allclose(vectors.T @ information @ vectors, np.diag(wanted), atol=1e-8)
    assert not vectors[~information.any(axis=1)].any()


def two_tastes(random, people, items, each):
    """People who take items of one half only."""
    owners = np.repeat(np.arange(people), each)
    half = random.integers(0, 2, size=people)[owners]
    taken = random.integers(0, items // 2, size=len(owners)) + half * (items // 2)
    return owners, taken, np.tile(np.arange(each), people) * MINUTE


@pytest.mark.parametrize("items", [40, 1_400], ids=["dense", "sparse"])
def test_items_of_one_taste_lie_together(items):
    random = np.random.default_rng(3)
    owners, taken, times = two_tastes(random, people=4 * items, items=items, each=12)
    vectors = ppmi_vectors(co_occurrence(owners, taken, times, items), 8)
    placed = vectors - vectors[vectors.any(axis=1)].mean(axis=0)
    leading = placed[:, np.argmax(np.abs(placed[: items // 2].mean(axis=0) - placed[items // 2 :].mean(axis=0)))]
    first, second = leading[: items // 2], leading[items // 2 :]
    assert max(first.min(), second.min()) > min(first.max(), second.max())
    again = ppmi_vectors(co_occurrence(owners, taken, times, items), 8)
    np.testing.assert_array_equal(vectors, again)


def test_nothing_taken_together_says_so():
    alone = co_occurrence(np.arange(4), np.arange(4), np.zeros(4, dtype=np.int64), COUNT)
    with pytest.raises(UsageError, match="no two items were taken by the same users"):
        ppmi_vectors(alone, 4)
