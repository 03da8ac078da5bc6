"""The types of metadata: bool, int64, float64, string, date32, timestamp in microseconds (UTC where zoned), and lists.

Sources without types of their own (JSON Lines, CSV) get, for each column, the narrowest type that holds every value of
the whole source, so the order of rows does not matter. Structs, lists of lists and lists of structs become JSON in a
string, and so does a column of which some values are lists and some are not.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from functools import reduce
from typing import Final

import pyarrow as pa

from mmrec.types import Scalar, Value

_WHOLE: Final = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][-+]?\d+)?|nan|-?inf", re.ASCII | re.IGNORECASE)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[-+]\d\d:\d\d)?", re.ASCII)
_NAIVE: Final = pa.timestamp("us")
_UTC: Final = pa.timestamp("us", "UTC")


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the narrowest metadata type that holds values of both: number, point in time, list, else text."""
    both = (first, second)
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in both):
        return pa.float64()
    if _UTC not in both and all(pa.types.is_temporal(each) for each in both):
        return _NAIVE
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(common_type(first.value_type, second.value_type))
    return pa.string()


def metadata_type(dtype: pa.DataType) -> pa.DataType:
    """Return the metadata type that values of an Arrow type become."""
    if pa.types.is_dictionary(dtype):
        return metadata_type(dtype.value_type)
    if _is_list(dtype):
        plain = not (pa.types.is_nested(dtype.value_type) or is_bytes(dtype.value_type))
        return pa.list_(metadata_type(dtype.value_type)) if plain else pa.string()
    return _scalar_type(dtype)


def _scalar_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(dtype) or pa.types.is_date(dtype):
        return pa.bool_() if pa.types.is_boolean(dtype) else pa.date32()
    if pa.types.is_integer(dtype) and dtype != pa.uint64():
        return pa.int64()
    if pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        return pa.float64()
    if pa.types.is_timestamp(dtype):
        return _UTC if dtype.tz else _NAIVE
    return pa.string()


def _is_list(dtype: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(dtype) for test in tests)


def is_bytes(dtype: pa.DataType) -> bool:
    """Whether an Arrow type is of bytes."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(dtype) for test in tests)


def type_of_value(value: object) -> pa.DataType:
    """Return the metadata type of a JSON value; text that is an ISO date or time counts as one."""
    if value is None or value == "":
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if -(2**63) <= value < 2**63 else pa.string()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, list):
        return _type_of_list(value)
    return _type_of_moment(value) if isinstance(value, str) else pa.string()


def _type_of_list(values: list[object]) -> pa.DataType:
    if any(isinstance(value, list | dict) for value in values):
        return pa.string()
    return pa.list_(reduce(common_type, {type_of_value(value) for value in values}, pa.null()))


def type_of_cell(cell: str) -> pa.DataType:
    """Return the metadata type of a CSV cell; a number with leading zeros is text."""
    if not cell:
        return pa.null()
    if cell.lower() in {"true", "false"}:
        return pa.bool_()
    if _WHOLE.fullmatch(cell):
        return type_of_value(int(cell))
    if _DECIMAL.fullmatch(cell):
        return pa.float64()
    return _type_of_moment(cell)


def _type_of_moment(text: str) -> pa.DataType:
    # The patterns come first: fromisoformat also takes bare digits, such as 20240131.
    try:
        if _DATE.fullmatch(text):
            date.fromisoformat(text)
            return pa.date32()
        if _TIME.fullmatch(text):
            return _UTC if _utc(datetime.fromisoformat(text)).tzinfo else _NAIVE
    except (ValueError, OverflowError):
        pass
    return pa.string()


def to_value(value: object, dtype: pa.DataType) -> Value:
    """Return a value as metadata of `dtype`, a list where that is one; see `to_scalar`."""
    if not pa.types.is_list(dtype):
        return to_scalar(value, dtype)
    if value is None or value == "":
        return None
    if not isinstance(value, list):
        raise ValueError("it is no list")  # noqa: TRY004 - the cell is wrong, not the argument's type
    return [to_scalar(one, dtype.value_type) for one in value]


def to_scalar(value: object, dtype: pa.DataType) -> Scalar:
    """Return a value as a metadata scalar of `dtype`, or None if it is null, empty or not a number.

    Raises ValueError or OverflowError if the type cannot hold it.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if pa.types.is_boolean(dtype):
        return _as_truth(value)
    if pa.types.is_date(dtype):
        return date.fromisoformat(value) if isinstance(value, str) else _as_date(value)
    if pa.types.is_timestamp(dtype):
        return _as_moment(value)
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        return _as_number(value, dtype)
    return _as_text(value)


def _as_truth(value: object) -> bool:
    word = str(value).lower()
    if word not in {"true", "false", "1", "0"}:
        raise ValueError("it is neither true nor false")
    return word in {"true", "1"}


def _as_number(value: object, dtype: pa.DataType) -> int | float | None:
    if pa.types.is_integer(dtype):
        return int(value) if isinstance(value, float) and value.is_integer() else int(str(value))
    number = float(str(value))
    return None if math.isnan(number) else number


def _as_text(value: object) -> str:
    if isinstance(value, list | dict | bool | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value.isoformat() if isinstance(value, date) else str(value)


def _as_date(value: object) -> date:
    if not isinstance(value, date):
        raise ValueError("it is no date")  # noqa: TRY004 - the cell is wrong, not the argument's type
    return value.date() if isinstance(value, datetime) else value


def _as_moment(value: object) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - of a column without zones
    if not isinstance(moment, datetime):
        raise ValueError("it is no point in time")  # noqa: TRY004 - the cell is wrong, not the argument's type
    return _utc(moment)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment


def schema_of(names: Iterable[str], types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the metadata schema of some columns; one that is null throughout is text."""
    return pa.schema([(name, metadata_type(types[name])) for name in names])
