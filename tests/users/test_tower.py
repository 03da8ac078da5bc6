"""The tower: what it may know of the future, of padding, and how far it may move an item from its content."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from users.towers import CONTENT, NEW, ROWS, START, contents, past, sequences, small_model, small_tower

from mmrec.users.model import History, UserModel
from mmrec.users.networks import TIME_BUCKETS, fit_whitening, time_buckets
from mmrec.users.tower_config import TowerConfig

seeds = st.integers(0, 2**16)


@given(seed=seeds, length=st.integers(2, 6), interests=st.integers(1, 4), spans=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_done_later_changes_nothing_before(seed, length, interests, spans, data):
    tower = small_tower(seed, interests=interests, spans=spans)
    kept = data.draw(st.integers(1, length - 1))
    one, other = sequences(length, seed), sequences(length, seed + 1)
    mixed = replace(
        one,
        **{
            name: torch.cat([getattr(one, name)[:, :kept], getattr(other, name)[:, kept:]], dim=1)
            for name in ("vectors", "kinds", "liked", "times", "requested")
        },
    )
    with torch.no_grad():
        before, after = tower.people(one), tower.people(mixed)
    for part in ("vectors", "log_shares", "short"):
        torch.testing.assert_close(getattr(before, part)[:, :kept], getattr(after, part)[:, :kept])
    assert not torch.allclose(before.vectors[:, kept:], after.vectors[:, kept:])


@given(seed=seeds, lengths=st.lists(st.integers(0, 15), min_size=1, max_size=5), interests=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_people_in_a_batch_are_placed_as_they_are_alone(seed, lengths, interests):
    model = small_model(seed=seed, interests=interests)
    random = np.random.default_rng(seed)
    pasts = [past(random.choice(ROWS, length), seed + place) for place, length in enumerate(lengths)]
    given_vectors = [model.items(one.rows, contents(len(one), seed)) for one in pasts]
    together = model.users(pasts, given_vectors, START * 2)
    for one, vectors, found in zip(pasts, given_vectors, together, strict=True):
        (alone,) = model.users([one], [vectors], START * 2)
        np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-5)
        np.testing.assert_allclose(found.weights, alone.weights, atol=1e-5)
        assert len(found.vectors) == (interests if len(one) else 0)
        if len(one):
            np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
            assert found.weights.sum() == pytest.approx(1, abs=1e-5)
            assert (np.diff(found.weights) <= 0).all()
            assert 0 <= found.short_share <= 1


def test_only_the_newest_events_of_the_window_count():
    model = small_model()
    long = past(np.tile(ROWS, 4))
    newest = History(long.rows[-6:], long.kinds[-6:], long.weights[-6:], long.times[-6:])
    vectors = model.items(long.rows, contents(len(long)))
    (one,), (other,) = model.users([long], [vectors]), model.users([newest], [vectors[-6:]])
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6)


def test_the_moment_of_asking_counts_only_where_it_is_to():
    later = START * 2
    for ask_time in (True, False):
        model = small_model(ask_time=ask_time)
        mine = past(ROWS)
        vectors = model.items(mine.rows, contents(len(mine)))
        soon, late = model.users([mine], [vectors])[0], model.users([mine], [vectors], later)[0]
        assert np.allclose(soon.vectors, late.vectors, atol=1e-6) == (not ask_time)


@given(seed=seeds, bound=st.floats(0, 3), size=st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_no_delta_is_longer_than_its_bound(seed, bound, size):
    tower = small_tower(seed, delta_bound=bound)
    with torch.no_grad():
        tower.items.delta.mul_(size)
        norms = tower.items.bounded(torch.arange(len(ROWS))).norm(dim=1)
        assert (norms <= bound).all()
        own = tower.items(tower.items.whiten(torch.from_numpy(contents(len(ROWS)))), torch.arange(len(ROWS)))
        none = tower.items(tower.items.whiten(torch.from_numpy(contents(len(ROWS)))), torch.full((len(ROWS),), -1))
    if bound < 1:
        # A delta shorter than the content vector turns it by less than a right angle: by its bound at most.
        cosines = (own * none).sum(dim=1)
        assert (cosines >= (1 - bound**2) ** 0.5 - 1e-5).all()


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_new_items_owe_nothing_to_any_delta(seed):
    model = small_model(seed=seed)
    fresh = contents(len(NEW), seed)
    before = model.items(NEW, fresh)
    with torch.no_grad():
        model.tower.items.delta.add_(1)
    assert (model.items(NEW, fresh) == before).all()
    known = contents(len(ROWS), seed)
    placed = model.items(ROWS, known)
    with torch.no_grad():
        model.tower.items.delta.add_(-1)
    assert not np.allclose(model.items(ROWS, known), placed)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 1, atol=1e-5)


def test_items_are_found_by_row_number_whatever_their_order():
    model = small_model()
    all_rows, given_contents = np.concatenate([NEW, ROWS]), contents(len(NEW) + len(ROWS))
    placed = model.items(all_rows, given_contents)
    order = np.random.default_rng(0).permutation(len(all_rows))
    np.testing.assert_allclose(model.items(all_rows[order], given_contents[order]), placed[order], atol=1e-6)


def test_a_tower_without_content_knows_its_own_items_alone():
    model = small_model(content=False)
    assert np.linalg.norm(model.items(ROWS, contents(len(ROWS))), axis=1) == pytest.approx(1, abs=1e-5)
    assert (model.items(NEW, contents(len(NEW))) == 0).all()
    assert model.items(ROWS[:0], contents(0)).shape == (0, 8)


def test_a_dropped_delta_is_as_none():
    tower = small_tower()
    white, places = tower.items.whiten(torch.from_numpy(contents(len(ROWS)))), torch.arange(len(ROWS))
    dropped = torch.tensor([True, False, True, False, True])
    with torch.no_grad():
        found = tower.items(white, places, dropped)
        expected = tower.items(white, torch.where(dropped, -1, places))
    torch.testing.assert_close(found, expected)


def test_what_a_person_dislikes_is_no_part_of_their_long_term():
    tower = small_tower()
    one, other = sequences(5), sequences(5)
    one, other = (replace(batch, liked=torch.tensor([[True, False, True, True, True]])) for batch in (one, other))
    changed = replace(other, vectors=other.vectors.clone())
    changed.vectors[0, 1] = -changed.vectors[0, 1]
    readout = tower.people.readout
    state = torch.zeros(1, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            readout(state, one.vectors, one.liked).vectors, readout(state, changed.vectors, changed.liked).vectors
        )


def test_a_tower_that_is_told_ratings_starts_as_one_that_is_not_and_counts_low_ones_as_choices():
    told, plain = (small_tower(ratings=ratings, moved=False) for ratings in (True, False))
    batch = sequences(5)
    rated = replace(batch, ratings=torch.tensor([[1, 2, 3, 4, 5]]))
    with torch.no_grad():
        before, after = plain.people(batch), told.people(rated)
    torch.testing.assert_close(before.vectors, after.vectors, rtol=0, atol=0)
    strengths = np.array([2.0, -2.0, 0.0, np.nan, np.nan, -1.0], dtype=np.float32)
    weights = np.array([4.0, -4.0, 0.0, 1.0, -8.0, 4.0], dtype=np.float32)
    mine = History(
        ROWS[[0, 1, 2, 3, 4, 0]], ("rate",) * 3 + ("view", "hide", "dislike"), weights, START + np.arange(6), strengths
    )
    assert mine.positive_kinds.tolist() == [True, True, True, True, False, False]
    assert replace(mine, strengths=None).positive_kinds.tolist() == [True, False, False, True, False, True]


def test_whitened_contents_do_not_correlate():
    given_contents = contents(500) @ np.diag([5, 1, 1, 1, 0.5, 0.1]).astype(np.float32) + 3
    whitening = fit_whitening(given_contents, CONTENT)
    white = (given_contents - whitening.mean).astype(np.float64) @ whitening.matrix
    covariance = np.cov(white, rowvar=False, bias=True) * CONTENT
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert (np.diag(covariance) <= 1 + 1e-6).all()
    assert np.sort(np.diag(covariance))[1] > 0.98
    assert fit_whitening(given_contents, 2).matrix.shape == (CONTENT, 2)


@given(exponent=st.integers(0, 45))
def test_each_doubling_of_time_is_a_bucket(exponent):
    seconds = 2**exponent - 1
    assert time_buckets(torch.tensor([seconds * 10**6 * (seconds < 2**40)]))[0] == min(
        exponent if seconds < 2**40 else 0, TIME_BUCKETS - 1
    )
    assert time_buckets(torch.tensor([-seconds]))[0] == 0


def test_it_is_a_user_model():
    assert isinstance(small_model(), UserModel)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of heads"):
        TowerConfig(width=10, heads=4)
    with pytest.raises(ValueError, match="interests"):
        TowerConfig(interests=5)
