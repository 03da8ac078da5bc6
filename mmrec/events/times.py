"""Parse event times: numbers, texts and timestamps to microseconds since 1970 in UTC."""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from mmrec.errors import MmrecError, UsageError
from mmrec.events.event import Column

_MICROSECONDS: Final = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE: Final = timedelta(microseconds=1)
_ARROW_DST_LIMIT_YEAR: Final = 2037
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
# From the year 1 to the year 9999, which is all that a datetime holds.
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _ONE
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _ONE


class BadTimeError(MmrecError):
    """A value is no time; the message is the reason."""


@dataclass(frozen=True, slots=True)
class TimeRule:
    """How times are read.

    Numbers count from 1970 in UTC. With the unit ``auto`` a number's size gives its unit: below 10^11 seconds (until
    the year 5138), below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds; times before 1973 in
    milliseconds need an explicit unit. Texts are ISO 8601. A text or timestamp without a zone is local time of `zone`,
    such as ``Europe/Paris``; of an hour that came twice, when clocks went back, the first is meant.
    """

    unit: str = "auto"
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown unit or zone."""
        if self.unit not in {"auto", *_MICROSECONDS}:
            raise UsageError(f"No unit of time is called {self.unit!r}: choose auto, s, ms, us or ns.")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(f"No time zone is called {self.zone!r}: give UTC or a name as Europe/Paris.") from error

    def moments(self, column: Column, fault: Callable[[int, str], None]) -> Int64[np.ndarray, " n"]:
        """Read a column; `fault` is called with the position and the reason of each value that is no time."""
        array = _array(column)
        if array is not None and (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
            return self._of_numbers(array, fault)
        if array is not None and pa.types.is_string(array.type):
            digits = pc.all(pc.match_substring_regex(array, r"^[0-9]{1,18}$"), min_count=0).as_py()
            if digits and not array.null_count:  # whole numbers at once
                return self._of_numbers(array.cast(pa.int64()), fault)
            return self._one_by_one(array.to_pylist(), fault)
        if array is not None and pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
            if array.type.tz is None and _arrow_knows_zones(array):
                with suppress(pa.ArrowInvalid):  # clocks went forward over one of them: each is looked at alone
                    array = pc.assume_timezone(array, self.zone, ambiguous="earliest", nonexistent="raise")
            if array.type.tz is not None:
                return TimeRule("us").moments(array.cast(pa.int64()), fault)
        return self._one_by_one(column if not isinstance(array, pa.Array) else array.to_pylist(), fault)

    def moment(self, value: object) -> int:
        """Read one value: microseconds since 1970 in UTC. Raises BadTimeError."""
        local = ZoneInfo(self.zone)
        match value:
            case None | "":
                raise BadTimeError("The time is missing.")
            case int() | float() if not isinstance(value, bool):
                return self._scaled(value)
            case str():
                if _NUMBER.fullmatch(text := value.strip()):
                    return self._scaled(int(text) if text.lstrip("+-").isdigit() else float(text))
                return _since(_parsed(text, value), local)
            case datetime():
                return _since(value, local)
            case date():
                return _since(datetime(value.year, value.month, value.day), local)  # noqa: DTZ001 - local time follows
        raise BadTimeError(f"The time is a {type(value).__name__}, not a number, a text or a timestamp.")

    def _scaled(self, number: float) -> int:
        if not math.isfinite(number):
            raise BadTimeError("The time is missing." if math.isnan(number) else "The time is infinite.")
        unit = self.unit
        if unit == "auto":
            size = abs(number)
            unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        if isinstance(number, int):
            moment = number // 1000 if unit == "ns" else number * int(_MICROSECONDS[unit])
        else:
            # Too large a product is infinite, and then no year at all.
            moment = round(max(-1e18, min(number * _MICROSECONDS[unit], 1e18)))
        return _within(moment, number)

    def _of_numbers(self, array: pa.Array, fault: Callable[[int, str], None]) -> Int64[np.ndarray, " n"]:
        """All numbers at once; exceptional ones are left to `_scaled`."""
        if array.type == pa.uint64():
            array = array.cast(pa.float64(), safe=False)
        missing = np.asarray(array.is_null())
        exact = pa.types.is_integer(array.type)
        numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
        numbers = numbers.astype(np.int64 if exact else np.float64)
        factors = self._factors(numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            about = numbers * factors
            odd = missing | ~(np.abs(about) < 2.0**53) | ((factors < 1) & (not exact))
            moments = np.rint(np.where(odd, 0, about)).astype(np.int64)
        if exact:
            moments = np.where(factors < 1, numbers // 1000, moments)
        for place in np.flatnonzero(odd).tolist():
            try:
                moments[place] = self._scaled(math.nan if missing[place] else numbers[place].item())
            except BadTimeError as error:
                fault(place, str(error))
        return moments

    def _factors(self, numbers: np.ndarray) -> np.ndarray:
        if self.unit != "auto":
            return np.full(len(numbers), _MICROSECONDS[self.unit])
        size = np.abs(numbers.astype(np.float64))
        return np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)

    def _one_by_one(self, values: list[object], fault: Callable[[int, str], None]) -> Int64[np.ndarray, " n"]:
        moments = np.zeros(len(values), dtype=np.int64)
        for place, value in enumerate(values):
            try:
                moments[place] = self.moment(value)
            except BadTimeError as error:
                fault(place, str(error))
        return moments


def _array(column: Column) -> pa.Array | None:
    if isinstance(column, list):
        try:
            column = pa.array(column)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def _arrow_knows_zones(array: pa.Array) -> bool:
    """Whether Arrow knows the zones of all these times as Python does: it has no summer time after the year 2037."""
    ends = pc.min_max(pc.year(array)).as_py()
    return ends["min"] is None or (ends["min"] >= _EPOCH.year and ends["max"] < _ARROW_DST_LIMIT_YEAR)


def _parsed(text: str, given: str) -> datetime:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC") + "+00:00" if text.endswith(" UTC") else text)
    except ValueError as error:
        raise BadTimeError(
            f"The time {given[:40]!r} is neither a number nor ISO 8601, as 2024-01-31T12:00:00Z."
        ) from error


def _since(moment: datetime, local: ZoneInfo) -> int:
    if moment.tzinfo is not None:
        return _within((moment - _EPOCH) // _ONE, moment)
    placed = moment.replace(tzinfo=local, fold=0)
    try:
        if placed.astimezone(UTC).astimezone(local).replace(tzinfo=None) != moment:
            raise BadTimeError(f"The time {moment} was passed over in {local.key}, where clocks went forward.")
    except OverflowError as error:
        raise BadTimeError(f"The time {moment} is not within the years 1 to 9999 in UTC.") from error
    return (placed - _EPOCH) // _ONE


def _within(since: int, given: object) -> int:
    if not _FIRST <= since <= _LAST:
        raise BadTimeError(f"The time {given!s} is not within the years 1 to 9999 in UTC; is its unit another one?")
    return since
