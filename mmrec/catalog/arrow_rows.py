"""Rows of Arrow batches: those of Parquet files, saved `datasets` directories and hub data sets."""

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from mmrec.catalog.rows import Row, Unreadable

__all__ = ["BATCH", "rows_of_batch"]

BATCH: Final = 64
"""Rows that are read at once; each can hold pictures of megabytes."""


def rows_of_batch(
    batch: pa.RecordBatch | pa.Table, number: int, table: tuple[str, str], table_row: int
) -> Iterator[Row]:
    """Give the rows of a batch.

    Args:
        batch: What holds them.
        number: Number of the first in the whole source, from 1.
        table: What the table is called in messages, and its address.
        table_row: Place of the first in the table, from 0.

    """
    shown, address = table
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for place in range(batch.num_rows):
        values = {name: column[place] for name, column in columns.items()}
        yield Row(number + place, values, f"{shown} row {table_row + place + 1}", address, table_row + place)


def _values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return Unreadable(f"The text is not UTF-8 (byte {error.start}).")
    except (ValueError, OverflowError):
        return Unreadable("The value is outside what can be represented.")
