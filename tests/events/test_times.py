"""Times of all kinds: the fast path over columns against the exact reading of one value, and the rules of zones."""

import math
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.events.times import BadTimeError, TimeRule

UNITS = ["auto", "s", "ms", "us", "ns"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def one_by_one(rule, values):
    """The slow, exact way: each value alone."""
    results = []
    for value in values:
        try:
            results.append(rule.moment(value))
        except BadTimeError as error:
            results.append(str(error))
    return results


def at_once(rule, column):
    faults = {}
    moments = rule.moments(column, faults.setdefault).tolist()
    return [faults.get(place, moment) for place, moment in enumerate(moments)]


@given(
    values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2 * 10**9)),
    unit=st.sampled_from(UNITS),
)
def test_whole_numbers(values, unit):
    rule = TimeRule(unit)
    assert at_once(rule, pa.array(values, pa.int64())) == one_by_one(rule, values)


@given(values=st.lists(st.none() | st.floats() | st.floats(0, 2e9)), unit=st.sampled_from(UNITS))
def test_numbers_with_fractions(values, unit):
    rule = TimeRule(unit)
    assert at_once(rule, pa.array(values, pa.float64())) == one_by_one(rule, values)


@given(
    moments=st.lists(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))),  # noqa: DTZ001
    hours=st.integers(-14, 14),
)
def test_every_spelling_of_a_moment_is_the_same(moments, hours):
    exact = [(moment - EPOCH) // timedelta(microseconds=1) for moment in moments]
    zoned = [moment.astimezone(timezone(timedelta(hours=hours))) for moment in moments]
    rule = TimeRule()
    assert at_once(rule, [moment.isoformat() for moment in zoned]) == exact
    assert at_once(rule, [moment.isoformat(" ") for moment in zoned]) == exact
    assert at_once(rule, list(zoned)) == exact
    assert at_once(rule, pa.array(moments, pa.timestamp("us", "UTC"))) == exact
    assert at_once(rule, pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp("us"))) == exact
    assert at_once(TimeRule("us"), exact) == exact


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (881250949, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)),
        ("881250949", datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)),
        ("881250949.25", datetime(1997, 12, 4, 15, 55, 49, 250_000, tzinfo=UTC)),
        (881250949_000, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)),
        (881250949_000_001, datetime(1997, 12, 4, 15, 55, 49, 1, tzinfo=UTC)),
        (881250949_000_001_999, datetime(1997, 12, 4, 15, 55, 49, 1, tzinfo=UTC)),
        (8.81250949e8, datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        (date(2024, 1, 31), datetime(2024, 1, 31, tzinfo=UTC)),
        (" 2024-01-31T12:00:00.5Z ", datetime(2024, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_number_tells_its_unit_by_its_size(number, moment):
    assert EPOCH + timedelta(microseconds=TimeRule().moment(number)) == moment


def test_times_without_a_zone_are_local_time():
    paris = TimeRule(zone="Europe/Paris")
    column = pa.array([datetime(2024, 7, 1, 12), datetime(2024, 1, 1, 12)], pa.timestamp("ns"))  # noqa: DTZ001
    expected = [TimeRule().moment("2024-07-01T10:00Z"), TimeRule().moment("2024-01-01T11:00Z")]
    assert at_once(paris, column) == expected
    assert at_once(paris, ["2024-07-01 12:00", "2024-01-01 12:00"]) == expected
    assert at_once(paris, ["2024-07-01T12:00Z"]) == [TimeRule().moment("2024-07-01T12:00Z")]


@settings(deadline=None)
@given(
    moments=st.lists(
        st.none()
        | st.datetimes(datetime(1970, 1, 1), datetime(2037, 1, 1))  # noqa: DTZ001
        | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
        max_size=4,
    ),
    zone=st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_local_times_of_a_column_are_those_of_each_alone(moments, zone):
    rule = TimeRule(zone=zone)
    assert at_once(rule, pa.array(moments, pa.timestamp("us"))) == one_by_one(rule, moments)


def test_where_clocks_go_back_the_first_hour_is_meant_and_an_hour_passed_over_is_none():
    paris = TimeRule(zone="Europe/Paris")
    assert paris.moment("2024-10-27T02:30") == TimeRule().moment("2024-10-27T00:30Z")
    both = [datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30)]  # noqa: DTZ001
    assert at_once(paris, pa.array(both[:1], pa.timestamp("us"))) == one_by_one(paris, both[:1])
    assert at_once(paris, pa.array(both, pa.timestamp("us"))) == one_by_one(paris, both)
    with pytest.raises(BadTimeError, match="passed over in Europe/Paris"):
        paris.moment("2024-03-31T02:30")


@pytest.mark.parametrize("value", ["", None, math.nan])
def test_a_missing_time_is_missing(value):
    with pytest.raises(BadTimeError, match="missing"):
        TimeRule().moment(value)


@pytest.mark.parametrize(
    "value", [True, "soon", "2024-13-01", [1], math.inf, 10**40, "1e300", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_told(value):
    with pytest.raises(BadTimeError, match="time"):
        TimeRule().moment(value)


def test_rules_that_are_none_are_told():
    with pytest.raises(UsageError, match="auto, s, ms, us or ns"):
        TimeRule("minutes")
    with pytest.raises(UsageError, match="Europe/Paris"):
        TimeRule(zone="Mars/Olympus")
