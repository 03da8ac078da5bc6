"""Cleaning, against a plain reading of its rules event by event, and its laws."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from events.made import arrays, at, events, micro
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import Event
from mmrec.events.histories import KnownItems
from mmrec.events.kinds import Kinds

NOW = micro(200)
KNOWN = KnownItems.numbered(["i0", "i1", "i2", "i3", "later"])
KINDS = Kinds({name: weight for name, weight in Kinds().weights.items() if name != "rate"})
RULES = Cleaning(
    kinds=KINDS,
    earliest=micro(20),
    max_clock_skew=timedelta(minutes=10),
    robot_events=5,
    robot_window=timedelta(minutes=30),
    collapsed=("view", "click"),
    collapse_within=timedelta(minutes=15),
    user_events=2,
    item_events=2,
    iterate=True,
)


def listed(cleaned):
    columns = (cleaned.users, cleaned.items, cleaned.kinds, cleaned.times)
    return [
        (cleaned.user_ids[user].as_py(), cleaned.item_ids[item].as_py(), cleaned.kind_names[kind], time)
        for user, item, kind, time in zip(*(column.tolist() for column in columns), strict=True)
    ]


def plainly(given_events):
    """The rules once more, one event at a time; a robot is looked for from each of its events on."""
    minute = 60_000_000
    numbered = [
        (e.user, e.item, e.kind, (micro(0) + round((e.time - at(0)).total_seconds()) * 1_000_000)) for e in given_events
    ]
    rows = sorted((row for row in enumerate(numbered)), key=lambda row: (row[1][0].encode(), row[1][3], row[0]))
    rows = [row for _, row in rows]
    removed = [len(rows)]
    rows = [row for row in rows if row[2] != "rate"]
    removed.append(len(rows))
    rows = [row for row in rows if micro(20) <= row[3] <= NOW + 10 * minute]
    removed.append(len(rows))
    rows = list(dict.fromkeys(rows))
    removed.append(len(rows))
    robots = set()
    for row in rows:
        within = [other for other in rows if other[0] == row[0] and row[3] <= other[3] < row[3] + 30 * minute]
        if len(within) >= 5:
            robots.add(row[0])
    rows = [row for row in rows if row[0] not in robots]
    removed.append(len(rows))
    rows = [row for row in rows if row[1] in {"i0", "i1", "i2", "i3"}]
    removed.append(len(rows))
    kept, last = [], {}
    for row in rows:
        before = last.get(row[:3])
        last[row[:3]] = row[3]
        if row[2] in {"view", "click"} and before is not None and row[3] - before <= 15 * minute:
            continue
        kept.append(row)
    removed.append(len(kept))
    while True:
        items = Counter(row[1] for row in kept)
        fewer = [row for row in kept if items[row[1]] >= 2]
        people = Counter(row[0] for row in fewer)
        fewer = [row for row in fewer if people[row[0]] >= 2]
        if len(fewer) == len(kept):
            break
        kept = fewer
    removed.append(len(kept))
    return kept, removed, robots


@given(given_events=st.lists(events, max_size=40))
@settings(max_examples=80, deadline=None)
def test_cleaning_is_what_its_rules_say(given_events):
    expected, lefts, robots = plainly(given_events)
    cleaned, report = clean(arrays(given_events), RULES, KNOWN, NOW)
    assert listed(cleaned) == expected
    assert [report.events, *(step.left for step in report.steps)] == lefts
    assert [step.removed for step in report.steps] == [a - b for a, b in pairwise(lefts)]
    assert report.robots == len(robots)


@given(given_events=st.lists(events, max_size=30), data=st.data())
@settings(max_examples=30, deadline=None)
def test_otherwise_it_matters_only_among_events_of_one_person_and_one_instant(given_events, data):
    """Any order that keeps those in theirs gives the same; sorting by time alone, stably, is one such order."""
    turned = sorted(data.draw(st.permutations(range(len(given_events)))), key=lambda place: given_events[place].user)
    moved = sorted(sorted(turned), key=lambda place: (given_events[place].time, given_events[place].user))
    one, report = clean(arrays(given_events), RULES, KNOWN, NOW)
    other, again = clean(arrays([given_events[place] for place in moved]), RULES, KNOWN, NOW)
    assert listed(one) == listed(other)
    assert report == again


@given(given_events=st.lists(events, max_size=30))
@settings(max_examples=30, deadline=None)
def test_cleaning_twice_changes_nothing_where_nothing_collapses(given_events):
    """Collapsing judges by what was there, so it may go further on what it left; all other steps are at rest."""
    rules = Cleaning(kinds=KINDS, earliest=micro(20), robot_events=5, collapsed=(), user_events=2, iterate=True)
    once, _ = clean(arrays(given_events), rules, KNOWN, NOW)
    twice, report = clean(once, rules, KNOWN, NOW)
    assert listed(once) == listed(twice)
    assert sum(step.removed for step in report.steps) == 0


def test_events_of_unknown_items_count_once_the_items_come():
    told = [Event("a", item, "like", at(30 + n)) for n, item in enumerate(["i0", "new", "newer", "new"])]
    cleaned, report = clean(arrays(told), Cleaning(), KNOWN, NOW)
    assert (len(cleaned), report.unknown_items) == (1, 2)
    grown = KnownItems.numbered(["i0", "new"])
    assert len(clean(arrays(told), Cleaning(), grown, NOW)[0]) == 3


def test_the_busiest_people_of_movielens_are_no_robots():
    from mmrec.events.event import load_events
    from mmrec.events.files import open_events
    from mmrec.events.log import LOG_SCHEMA
    from mmrec.events.prepare import prepare
    from mmrec.events.times import TimeRule
    from mmrec.examples import ml_100k_folder

    source = open_events(ml_100k_folder() / "ml-100k.inter")
    batches, first = [], 0
    for raw in source.batches():
        table = prepare(raw, source.columns, Kinds(), TimeRule()).events.combine_chunks()
        table = table.add_column(0, "seq", [range(first, first + len(table))]).cast(LOG_SCHEMA)
        batches += table.to_batches()
        first += len(table)
    cleaned, report = clean(load_events(batches))
    assert (len(cleaned), len(cleaned.user_ids), report.robots) == (100_000, 943, 0)
    _, strict = clean(load_events(batches), Cleaning(robot_events=400))
    assert strict.robots > 0
    assert (np.diff(cleaned.times)[np.diff(cleaned.users) == 0] >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"robot_events": 1}, "2 or more"), ({"user_events": 0}, "1 or more"), ({"collapsed": ("look",)}, "'look'")],
)
def test_rules_that_cannot_be_meant_are_told(wrong, said):
    with pytest.raises(UsageError, match=said):
        Cleaning(**wrong)


def test_an_empty_log_is_clean():
    cleaned, report = clean(arrays([]), RULES, KNOWN, NOW)
    assert len(cleaned) == 0
    assert (report.events, report.robots, report.unknown_items) == (0, 0, 0)
