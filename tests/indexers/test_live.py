"""An index that changes while it is searched."""

import threading

import numpy as np
import pytest

from indexers import BadVectorsError, IndexersError, IndexSpec, LiveIndex, build

DIM = 16


def ones(rows, value=1.0):
    return np.full((len(rows), DIM), value, dtype=np.float32)


def test_a_later_segment_replaces_rows_of_an_earlier_one():
    old = build(IndexSpec("Flat", "ip"), np.arange(10), ones(range(10), 5))
    new = build(IndexSpec("Flat", "ip"), np.arange(5, 15), ones(range(10), 1))
    live = LiveIndex(DIM, "ip", [old, new])
    assert sorted(live.rows) == list(range(15))
    found = live.search(ones([0]), 20)
    assert found.rows[0, :15].tolist() == list(range(15))
    assert found.scores[0, :15].tolist() == [80.0] * 5 + [16.0] * 10


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,Flat", "HNSW32,SQ8"])
def test_rows_that_went_cost_no_recall(factory, clustered):
    """All near neighbours of a query go, far more than the slack that a first search allows for."""
    vectors, queries, _ = clustered(5_000, 64, queries=20)
    live = LiveIndex(64, "cosine", [build(IndexSpec(factory, "cosine", {"efSearch": 64}), np.arange(5_000), vectors)])
    near = np.unique(live.search(queries, 150).rows)
    live.remove(near)
    left = np.setdiff1d(np.arange(5_000), near)
    assert sorted(live.rows) == left.tolist()
    found = live.search(queries, 10)
    truth = build(IndexSpec("Exact", "cosine"), left, vectors[left]).search(queries, 10)
    assert not np.isin(found.rows, near).any()
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.rows, truth.rows, strict=True)]) >= 0.95


def test_what_cannot_be_added_changes_nothing():
    live = LiveIndex(DIM, "ip")
    live.add(np.arange(3), ones(range(3)))
    for rows, vectors in (
        (np.array([1, 1]), ones(range(2))),
        (np.array([4]), np.full((1, DIM), np.nan, dtype=np.float32)),
        (np.array([4]), np.ones((1, DIM + 1), dtype=np.float32)),
        (np.array([4, 5]), ones(range(1))),
    ):
        with pytest.raises(BadVectorsError):
            live.add(rows, vectors)
    assert sorted(live.rows) == [0, 1, 2]
    live.remove(np.array([7, 7, -3]))
    assert len(live) == 3


def test_segments_of_another_kind_are_refused():
    segment = build(IndexSpec("Flat", "ip"), np.arange(3), ones(range(3)))
    with pytest.raises(IndexersError, match="16 dimensions and metric ip"):
        LiveIndex(DIM, "l2", [segment])
    with pytest.raises(IndexersError, match="this index has 8"):
        LiveIndex(8, "ip", [segment])


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,Flat"])
def test_readers_see_whole_changes_only(factory):
    """One writer adds and removes whole groups; each group must be found complete, at one version, or not at all."""
    group, rounds = 8, 60
    fixed = np.arange(1_000, 1_200)
    rng = np.random.default_rng(0)
    live = LiveIndex(DIM, "ip", [build(IndexSpec(factory, "ip"), fixed, rng.standard_normal((200, DIM)))])
    done, failures = threading.Event(), []

    def read():
        query = ones([0])
        while not done.is_set():
            found = live.search(query, 3 * group)
            scores = found.scores[0][found.rows[0] < group]
            if scores.size not in {0, group} or np.unique(scores).size > 1:
                failures.append((found.rows[0], found.scores[0]))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for version in range(1, rounds):
            live.add(np.arange(group), ones(range(group), 100 + version))
            live.add(np.arange(group), ones(range(group), 200 + version))
            live.remove(np.append(np.arange(group), fixed[version]))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failures
    assert len(live) == 200 - (rounds - 1)


def test_concurrent_writers_lose_nothing():
    live = LiveIndex(DIM, "l2")

    def write(first):
        for row in range(first, first + 25):
            live.add(np.array([row]), ones([row]))

    writers = [threading.Thread(target=write, args=(100 * number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(live) == 100
