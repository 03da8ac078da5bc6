"""Work ahead comes back in order, stays within bounds, and never waits for itself."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrec.embedding import prefetch as ahead_module
from mmrec.embedding.prefetch import prefetch_ordered


@given(st.lists(st.integers(0, 10**9), max_size=300), st.integers(1, 4))
def test_results_come_in_the_order_of_the_tasks_whatever_they_weigh(sizes, workers):
    tasks = ((number, size) for number, size in enumerate(sizes))
    assert list(prefetch_ordered(tasks, lambda number: (number, sizes[number]), workers)) == list(range(len(sizes)))


def test_what_waits_is_bounded_by_its_bytes(monkeypatch):
    monkeypatch.setattr(ahead_module, "MOST_BYTES", 1000)
    lock, held, most = threading.Lock(), 0, 0

    def work(number):
        nonlocal held, most
        with lock:
            held += 100
            most = max(most, held)
        return number, 100

    for _ in prefetch_ordered(((number, 0) for number in range(500)), work, 4):
        with lock:
            held -= 100
    assert most <= 1000 + 5 * 100  # what is there, and one for each worker and for the taker


def test_large_tasks_are_not_all_taken_from_the_source_at_once(monkeypatch):
    monkeypatch.setattr(ahead_module, "MOST_BYTES", 1000)
    given_out, taken, most = 0, 0, 0

    def tasks():
        nonlocal given_out, most
        for number in range(50):
            given_out += 1
            most = max(most, given_out - taken)
            yield number, 400

    for _ in prefetch_ordered(tasks(), lambda number: (number, 0), 2):
        taken += 1
    assert most <= 4


def test_an_error_comes_at_its_turn_and_ends_everything():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number, 10**12

    results = []
    with pytest.raises(ValueError, match="three"):
        results.extend(prefetch_ordered(((number, 0) for number in range(1000)), work, 2))
    assert results == [0, 1, 2]
    taken = prefetch_ordered(((number, 0) for number in range(1000)), work, 2)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    taken.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmrec-read")]
