"""Metadata columns that come back with another type than they went in with.

Files without types, such as CSV, change a column's type by a single value: 5 becomes 7.5, a day gains an hour. The
stored column then takes the narrowest type that holds both, and keeps its values. Lists beside texts become JSON.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa

from mmrec.errors import UsageError

__all__ = ["Retyping", "as_json", "common_type", "mend", "retype", "retypings"]

INTERIM = "mmrec_retyped"
"""Name of a column between its old and its new type; what it holds is given by the suffix."""

SQL = {pa.float64(): "double", pa.string(): "string", pa.timestamp("us"): "timestamp"}


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the narrowest type for values of both: number, point in time, else text."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    kinds = (pa.types.is_integer, pa.types.is_floating)
    if all(any(kind(each) for kind in kinds) for each in (one, other)):
        return pa.float64()
    if all(pa.types.is_temporal(each) for each in (one, other)):
        return pa.timestamp("us")
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(common_type(one.value_type, other.value_type))
    return pa.string()


@dataclass(frozen=True, slots=True)
class Retyping:
    """A metadata column that a source has with another type than the store.

    Attributes:
        column: Its name.
        stored: Its type in the store.
        given: Its type in the source.
        becomes: Its type in the store, once the source is in it.

    """

    column: str
    stored: pa.DataType
    given: pa.DataType
    becomes: pa.DataType


def retypings(stored: pa.Schema, given: pa.Schema) -> Iterator[Retyping]:
    """Tell which columns will change their type or differ from it, before a source is taken in."""
    for column in given:
        place = stored.get_field_index(column.name)
        if place >= 0 and stored.field(place).type != column.type and not pa.types.is_null(column.type):
            kept = stored.field(place).type
            yield Retyping(column.name, kept, column.type, common_type(kept, column.type))


def as_json(lists: pa.Array) -> pa.Array:
    """Lists as JSON texts, as those of a column that is not of lists alone."""
    texts = [None if one is None else json.dumps(one, ensure_ascii=False, default=str) for one in lists.to_pylist()]
    return pa.array(texts, pa.string())


def retype(table: lance.LanceDataset, column: str, wanted: pa.DataType) -> None:
    """Change the type of a column, values and row numbers kept. Hold the commit lock.

    Three commits: a copy, the old one dropped, the copy renamed. `mend` puts right what dies between them.
    """
    kept = table.schema.field(column).type
    if wanted not in SQL and not pa.types.is_list(wanted):
        raise UsageError(
            f"metadata column {column!r} is {kept} in the store and cannot become {wanted}; "
            "give it another name in the source, or index into a new store"
        )
    interim = f"{INTERIM} {column}"
    if pa.types.is_list(kept):
        _add_cast_lists(table, column, pa.field(interim, wanted))
    else:
        table.add_columns({interim: f"cast(`{column}` as {SQL[wanted]})"})
    table.drop_columns([column])
    _rename(table, interim, column)


def _add_cast_lists(table: lance.LanceDataset, column: str, interim: pa.Field) -> None:
    schema = pa.schema([interim])

    def cast(batch: pa.RecordBatch) -> pa.RecordBatch:
        lists = batch.column(column)
        return pa.record_batch([as_json(lists) if interim.type == pa.string() else lists.cast(interim.type)], schema)

    table.add_columns(lance.batch_udf(output_schema=schema)(cast), read_columns=[column])


def mend(table: lance.LanceDataset) -> None:
    """Finish or undo a change of type that was cut off. Hold the commit lock."""
    for interim in [name for name in table.schema.names if name.startswith(f"{INTERIM} ")]:
        column = interim.removeprefix(f"{INTERIM} ")
        if column in table.schema.names:
            table.drop_columns([interim])
        else:
            _rename(table, interim, column)


def _rename(table: lance.LanceDataset, old: str, new: str) -> None:
    change: Any = {"path": old, "name": new}
    table.alter_columns(change)
