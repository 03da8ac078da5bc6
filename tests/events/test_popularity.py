"""Recent popularity against its definition, in every database, however the events arrive."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from mmrec.events.event import Event
from mmrec.events.kinds import Kinds
from mmrec.events.popularity import LogPopularity

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=40)


def at(days: float) -> datetime:
    return NOON + timedelta(days=days)


def impatient() -> LogPopularity:
    return LogPopularity(Kinds(), half_days=7, max_age_seconds=0)


def test_sums_decay_and_people_count_once_a_day(log) -> None:
    log.append(
        [
            Event("a", "old", "like", at(0)),
            Event("b", "old", "like", at(0)),
            Event("a", "new", "like", at(14)),
            Event("a", "often", "view", at(14)),
            Event("a", "often", "view", at(14.1)),
            Event("b", "often", "view", at(14)),
            Event("a", "hated", "hide", at(14)),
            Event("b", "hated", "view", at(14)),
        ]
    )
    found = impatient().read(log)
    assert found.ids == ("new", "often", "old")
    assert found.scores == pytest.approx((4, 2, 2), abs=1e-9)
    assert found.last_seq == 8


def test_counting_as_events_come_is_counting_them_all(log) -> None:
    grown = impatient()
    for number, days in enumerate([3, 0, 20, 19, 1, 35, 34, 2]):
        log.append([Event(f"p{number}", f"i{number % 3}", "click", at(days))])
        found = grown.read(log)
    anew = impatient().read(log)
    assert found.ids == anew.ids
    assert all(math.isclose(one, other) for one, other in zip(found.scores, anew.scores, strict=True))


def test_an_empty_log_and_one_of_the_future_have_nothing_popular(log) -> None:
    assert impatient().read(log).ids == ()
    log.append([Event("a", "x", "like", datetime.now(UTC) + timedelta(days=400))])
    assert impatient().read(log).ids == ()


def test_a_count_is_kept_for_a_while(log) -> None:
    patient = LogPopularity(Kinds(), max_age_seconds=3600)
    assert patient.read(log).ids == ()
    log.append([Event("a", "x", "like", at(0))])
    assert patient.read(log).ids == ()


def test_who_is_forgotten_counts_no_more(log) -> None:
    log.append([Event(person, item, "like", at(0)) for person, item in [("a", "x"), ("b", "x"), ("b", "y")]])
    grown = impatient()
    assert grown.read(log).scores == pytest.approx((8, 4))
    log.forget("b")
    assert grown.read(log).ids == ("x",)
    assert grown.read(log).scores == pytest.approx((4,))
    log.append([Event("c", "y", "purchase", at(0))])
    assert grown.read(log).ids == ("y", "x")
    log.forget("nobody")
    assert grown.read(log).ids == ("y", "x")
    log.forget("a")
    log.forget("c")
    assert grown.read(log).ids == ()
