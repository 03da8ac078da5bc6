"""Windows: each event learned once, none with its own future, padding that counts for nothing."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.made import ROWS, histories_of

from mmrec.training.windows import TowerEvents, batch_of, batches, cut_windows

lengths = st.lists(st.integers(1, 25), min_size=1, max_size=8)


def offsets_of(given_lengths):
    return np.concatenate([[0], np.cumsum(given_lengths)]).astype(np.int64)


@given(given_lengths=lengths, window=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_event_but_the_first_is_a_target_once(given_lengths, window, seed):
    offsets = offsets_of(given_lengths)
    windows = cut_windows(offsets, window, True, np.random.default_rng(seed))
    targets = np.concatenate(
        [np.arange(a + 1, b + 1) for a, b in zip(windows.starts, windows.stops, strict=True)] or [[]]
    )
    firsts = set(offsets[:-1].tolist())
    assert sorted(targets.tolist()) == [place for place in range(offsets[-1]) if place not in firsts]
    assert (windows.stops - windows.starts <= window).all()
    assert (windows.stops > windows.starts).all()
    owners = np.searchsorted(offsets, windows.starts, side="right")
    assert (owners == np.searchsorted(offsets, windows.stops, side="right")).all()


@given(given_lengths=lengths, window=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_without_every_event_each_person_has_their_newest_window(given_lengths, window):
    offsets = offsets_of(given_lengths)
    windows = cut_windows(offsets, window, False, np.random.default_rng(0))
    several = np.array(given_lengths) > 1
    assert (windows.stops == offsets[1:][several] - 1).all()
    assert (windows.stops - windows.starts == np.minimum(np.array(given_lengths)[several] - 1, window)).all()


@given(given_lengths=lengths, size=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_batches_share_all_windows_out(given_lengths, size, seed):
    random = np.random.default_rng(seed)
    windows = cut_windows(offsets_of(given_lengths), 4, True, random)
    shared = batches(windows, size, random)
    assert sorted(np.concatenate(shared).tolist() if shared else []) == list(range(len(windows)))
    assert all(0 < len(one) <= size for one in shared)


def test_ratings_are_inputs_and_low_ones_are_targets_too():
    stars = np.array([np.nan, -1.5, 0.4, 2.0], dtype=np.float32)
    histories = replace(histories_of([ROWS[[0, 1, 2, 3]]], kind_names=("rate",)), strengths=stars)
    batch = batch_of(
        TowerEvents.of(histories, ROWS, ("rate",), {"rate": 2.0}),
        cut_windows(histories.offsets, 10, True, np.random.default_rng(0)),
        np.array([0]),
    )
    assert batch.targets.tolist() == [[1, 2, 3]]
    assert batch.liked.all()
    assert batch.ratings.tolist() == [[0, 1, 3]]


def test_a_batch_holds_what_was_met_next_and_no_target_that_was_disliked():
    histories = histories_of(
        [ROWS[[0, 1, 2, 3]], ROWS[[7, 6]]], [np.array([0, 1, 0, 1]), np.array([0, 0])], ("view", "hide")
    )
    events = TowerEvents.of(histories, ROWS, ("hide",), {"view": 1.0, "hide": -8.0})
    windows = cut_windows(histories.offsets, 10, True, np.random.default_rng(0))
    batch = batch_of(events, windows, np.array([0, 1]))
    assert batch.items.tolist() == [[0, 1, 2], [7, 0, 0]]
    assert batch.targets.tolist() == [[-1, 2, -1], [6, -1, -1]]
    assert batch.kinds[0].tolist() == [0, 1, 0]
    assert batch.liked[0].tolist() == [True, False, True]
    assert (batch.requested - batch.times)[0].tolist() == [1_000_000] * 3
    empty = batch_of(events, windows, np.array([], dtype=np.int64))
    assert empty.items.shape == (0, 1)
    assert empty.items.dtype == torch.int64
