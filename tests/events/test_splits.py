"""Histories and splits: what may be learned from, what is predicted, and that the future does not leak."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from events.made import arrays, at, events, few, kinds, micro
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import Event
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.splits import hold_out_items, hold_out_users, leave_one_out, time_cutoff, time_split

NOW = micro(1000)
CUTOFF = 150
ITEMS = [f"i{number}" for number in range(6)]
# Row numbers as a store gives them: not in the order of the ids, and with gaps.
KNOWN = KnownItems.of([pa.record_batch({"id": ITEMS, "_rowid": [50, 3, 17, 2**40, 4, 0]})])
ROWS = dict(zip(ITEMS, [50, 3, 17, 2**40, 4, 0], strict=True))
RULES = Cleaning(robot_events=6, user_events=2)


def histories_of(given_events, rules=RULES):
    return Histories.of(clean(arrays(given_events), rules, KNOWN, NOW)[0], KNOWN)


@given(given_events=st.lists(events, max_size=40))
@settings(max_examples=40, deadline=None)
def test_histories_hold_the_cleaned_events_by_person_newest_last(given_events):
    cleaned, _ = clean(arrays(given_events), RULES, KNOWN, NOW)
    made = Histories.of(cleaned, KNOWN)
    expected = {}
    for place in range(len(cleaned)):
        person = cleaned.user_ids[int(cleaned.users[place])].as_py()
        item = cleaned.item_ids[int(cleaned.items[place])].as_py()
        expected.setdefault(person, []).append((ROWS[item], int(cleaned.times[place])))
    found = {}
    for place, person in enumerate(made.user_ids.to_pylist()):
        span = made.span(place)
        found[person] = list(zip(made.items[span].tolist(), made.times[span].tolist(), strict=True))
        assert (made.owners[span] == place).all()
    assert found == expected
    assert made.user_ids.to_pylist() == sorted(found, key=str.encode)
    assert (made.lengths > 0).all()
    assert (made.items.dtype, made.kinds.dtype, made.offsets.dtype) == (np.int64, np.int16, np.int64)


def test_histories_of_events_in_disorder_or_of_unknown_items_are_refused():
    raw = arrays([Event("a", "i0", "view", at(2)), Event("a", "i1", "view", at(1))])
    with pytest.raises(UsageError, match="clean them first"):
        Histories.of(raw, KNOWN)
    cleaned, _ = clean(arrays([Event("a", "x", "view", at(1))]), Cleaning(), None, NOW)
    with pytest.raises(UsageError, match="no item 'x'"):
        Histories.of(cleaned, KNOWN)


past = st.builds(replace, events, time=st.integers(0, CUTOFF - 1).map(at))
future = st.builds(replace, events, time=st.integers(CUTOFF, 900).map(at), user=few | st.just("newcomer"))


@given(before=st.lists(past, max_size=40), after=st.lists(future, max_size=25), other=st.lists(future, max_size=25))
@settings(max_examples=50, deadline=None)
def test_nothing_after_the_cutoff_reaches_training(before, after, other):
    """Another future, of other events, people, robots: training stays the same to the byte, held-out too."""
    one = time_split(arrays([*before, *after]), KNOWN, micro(CUTOFF), RULES, NOW)
    two = time_split(arrays([*other, *before]), KNOWN, micro(CUTOFF), RULES, NOW)
    assert one.train.digest() == two.train.digest()
    assert one.report == two.report
    assert hold_out_items(one, KNOWN, 0.3, 1).train.digest() == hold_out_items(two, KNOWN, 0.3, 1).train.digest()
    assert hold_out_users(one, 0.3, 1).train.digest() == hold_out_users(two, 0.3, 1).train.digest()
    assert (one.train.times < micro(CUTOFF)).all()


@given(before=st.lists(past, min_size=3, max_size=20), change=st.integers(0, 100), kind=kinds)
@settings(max_examples=25, deadline=None)
def test_the_digest_sees_every_change(before, change, kind):
    changed = list(before)
    place = change % len(before)
    changed[place] = replace(before[place], kind=kind)
    one, two = (time_split(arrays(some), KNOWN, micro(CUTOFF), RULES, NOW).train for some in (before, changed))
    alike = all(
        np.array_equal(getattr(one, name), getattr(two, name), equal_nan=name == "values")
        for name in ("offsets", "items", "kinds", "times", "values")
    )
    assert (one.digest() == two.digest()) == (alike and one.user_ids.equals(two.user_ids))


@given(given_events=st.lists(events, max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_later_event_that_speaks_for_its_item_is_a_target_with_the_history_it_had(given_events):
    split = time_split(arrays(given_events), KNOWN, micro(CUTOFF), RULES, NOW)
    live, weights = split.live, RULES.kinds.weights
    expected = [
        place
        for place in range(len(live.times))
        if live.times[place] >= micro(CUTOFF)
        and weights[live.kind_names[live.kinds[place]]] > 0
        # A rating that counts as a dislike is no target; what is no rating has no number here.
        and not (live.strengths is not None and live.strengths[place] <= 0)
    ]
    assert split.targets.tolist() == expected
    for target in expected:
        seen = split.history(target)
        assert (live.owners[seen] == live.owners[target]).all()
        assert (live.times[seen] <= live.times[target]).all()
        assert seen.stop == target
        assert seen.start == live.offsets[live.owners[target]]
    last = split.last_only()
    assert last.targets.tolist() == sorted({int(live.owners[t]): t for t in expected}.values())
    assert split.users == last.users == len(last.targets)


@given(given_events=st.lists(events, max_size=60))
@settings(max_examples=40, deadline=None)
def test_leave_one_out_holds_back_the_last_two(given_events):
    whole = histories_of(given_events)
    split = leave_one_out(whole, RULES)
    for place, person in enumerate(whole.user_ids.to_pylist()):
        span = whole.span(place)
        speaking = [
            p for p in range(span.start, span.stop) if RULES.kinds.weights[whole.kind_names[whole.kinds[p]]] > 0
        ]
        lengths = dict(zip(split.train.user_ids.to_pylist(), split.train.lengths.tolist(), strict=True))
        length = lengths.get(person, 0)
        if len(speaking) < 3:
            assert length == span.stop - span.start
            assert not set(speaking) & {*split.targets.tolist(), *split.validation.tolist()}
        else:
            assert speaking[-1] in split.targets
            assert speaking[-2] in split.validation
            assert length == speaking[-2] - span.start
    assert len(split.targets) == len(split.validation)


def test_the_cutoff_is_a_quantile_of_the_cleaned_times():
    log = arrays([Event("a", f"i{n % 6}", "like", at(10 * n)) for n in range(10)])
    assert time_cutoff(log, 0.8, now=NOW) == micro(80)
    split = time_split(log, KNOWN, time_cutoff(log, 0.8, now=NOW), Cleaning(), NOW)
    assert (len(split.train.times), len(split.targets)) == (8, 2)
    for wrong in (0, 1, -1):
        with pytest.raises(UsageError, match="between 0 and 1"):
            time_cutoff(log, wrong)
    with pytest.raises(UsageError, match="no events"):
        time_cutoff(arrays([]), 0.8)


def test_cold_items_are_a_seeded_tenth_and_depend_on_no_one():
    ids = [f"i{n}" for n in range(200)]
    known = KnownItems.numbered(ids)
    log = arrays([Event(f"u{n % 20}", f"i{n * 7 % 200}", "like", at(n)) for n in range(400)])
    split = time_split(log, known, micro(300), Cleaning(), NOW)
    held = hold_out_items(split, known, 0.1, seed=3)
    assert len(held.cold_rows) == 20
    assert not np.isin(held.train.items, held.cold_rows).any()
    assert len(held.train.items) == (~np.isin(split.train.items, held.cold_rows)).sum()
    assert np.array_equal(held.targets, split.targets)
    assert np.array_equal(hold_out_items(split, known, 0.1, seed=3).cold_rows, held.cold_rows)
    assert not np.array_equal(hold_out_items(split, known, 0.1, seed=4).cold_rows, held.cold_rows)
    fewer = time_split(log.take(np.arange(100)), known, micro(300), Cleaning(), NOW)
    assert np.array_equal(hold_out_items(fewer, known, 0.1, seed=3).cold_rows, held.cold_rows)


def test_validation_on_cold_items_is_dropped_and_training_with_validation_keeps_out_what_is_held_out():
    log = [Event(f"u{n % 15}", f"i{n * 7 % 40}", "like", at(n)) for n in range(300)]
    known = KnownItems.numbered([f"i{n}" for n in range(40)])
    whole = Histories.of(clean(arrays(log), Cleaning(), known, NOW)[0], known)
    split = leave_one_out(whole)
    held = hold_out_items(split, known, 0.3, seed=1)
    on_cold = np.isin(whole.items[split.validation], held.cold_rows)
    assert 0 < on_cold.sum() < len(on_cold)
    assert np.array_equal(held.validation, split.validation[~on_cold])
    assert np.array_equal(held.targets, split.targets)
    people = hold_out_users(held, 0.3, seed=2)
    learned = people.train_and_validation()
    assert not np.isin(learned.items, held.cold_rows).any()
    assert set(learned.user_ids.to_pylist()).isdisjoint(people.cold_users.to_pylist())


@given(given_events=st.lists(events, max_size=60))
@settings(max_examples=40, deadline=None)
def test_training_with_validation_is_all_that_came_before_the_targets(given_events):
    whole = histories_of(given_events)
    split = leave_one_out(whole, RULES)
    first = {int(whole.owners[target]): target for target in split.targets.tolist()}
    owners = whole.owners.tolist()
    keep = np.array([place < first.get(owner, place + 1) for place, owner in enumerate(owners)], dtype=bool)
    assert split.train_and_validation().digest() == whole.keep(keep).digest()
    timed = time_split(arrays(given_events), KNOWN, micro(CUTOFF), RULES, NOW)
    assert timed.train_and_validation().digest() == timed.train.digest()


def test_cold_people_are_seeded_and_tested_on_alone():
    known = KnownItems.numbered(ITEMS)
    log = arrays([Event(f"u{n % 100}", f"i{n % 6}", "like", at(n)) for n in range(900)])
    split = time_split(log, known, micro(500), Cleaning(), NOW)
    held = hold_out_users(split, 0.2, seed=1)
    cold = set(held.cold_users.to_pylist())
    assert 8 <= len(cold) <= 35, "a share of 0.2 of 100 people, four standard deviations each way"
    assert cold.isdisjoint(held.train.user_ids.to_pylist())
    assert {held.live.user_ids[int(place)].as_py() for place in held.live.owners[held.targets]} <= cold
    assert set(hold_out_users(split, 0.2, seed=1).cold_users.to_pylist()) == cold
    assert set(hold_out_users(split, 0.2, seed=2).cold_users.to_pylist()) != cold
    with pytest.raises(UsageError, match="between 0 and 1"):
        hold_out_users(split, 1.0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        hold_out_items(split, known, 0.0)
