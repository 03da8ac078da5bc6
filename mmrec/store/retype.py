"""Metadata columns that come back with another type than they went in with.

Files without types, such as CSV, change a column's type by a single value: 5 becomes 7.5, a day gains an hour. The
stored column then takes the narrowest type that holds both, and keeps its values.
"""

from typing import Any

import lance
import pyarrow as pa

from mmrec.errors import UsageError

__all__ = ["common_type", "mend", "retype"]

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
    return pa.string()


def retype(table: lance.LanceDataset, column: str, wanted: pa.DataType) -> None:
    """Change the type of a column, values and row numbers kept. Hold the commit lock.

    Three commits: a copy, the old one dropped, the copy renamed. `mend` puts right what dies between them.
    """
    if wanted not in SQL:
        raise UsageError(
            f"metadata column {column!r} is {table.schema.field(column).type} in the store and cannot become {wanted}; "
            "give it another name in the source, or index into a new store"
        )
    interim = f"{INTERIM} {column}"
    table.add_columns({interim: f"cast(`{column}` as {SQL[wanted]})"})
    table.drop_columns([column])
    _rename(table, interim, column)


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
