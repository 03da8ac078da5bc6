"""Rows of Arrow data: Parquet files, folders of them, and directories written by `Dataset.save_to_disk`."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.errors import UsageError
from mmrec.sources.places import Place
from mmrec.sources.rows import Row, Unreadable
from mmrec.sources.scalars import common_type, metadata_type
from mmrec.sources.storage import first_line
from mmrec.types import Reject

BATCH: Final = 64
"""Rows that are read at once; each can hold images of megabytes."""


def rows_of_batch(
    batch: pa.RecordBatch | pa.Table, number: int, table: tuple[str, str], table_row: int
) -> Iterator[Row]:
    """Give the rows of a batch, whose first has a number in the source, from 1, and a place in its table, from 0.

    `table` is what the table is called in messages, and its address.
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


@dataclass(frozen=True, slots=True)
class SavedDataset:
    """Rows of a directory written by `Dataset.save_to_disk`: mapped into memory, or streamed from an object store."""

    folder: Place
    types: Mapping[str, pa.DataType]
    table: pa.Table | None = None

    @property
    def count(self) -> int | None:
        """Number of rows; None in an object store."""
        return None if self.table is None else self.table.num_rows

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read these columns of every row."""
        first = 0
        for batch in self._batches(list(names)):
            yield from rows_of_batch(batch, first + 1, (self.folder.name, str(self.folder)), first)
            first += batch.num_rows

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        if self.table is not None:
            yield from self.table.select(names).to_reader(BATCH)
            return
        for batch in batches_of_saved(self.folder):
            yield from (batch.slice(start, BATCH).select(names) for start in range(0, batch.num_rows, BATCH))


def open_dataset(path: Place) -> SavedDataset:
    """Open a directory written by `Dataset.save_to_disk`; its images and audio stay the bytes they are.

    On this machine its files are mapped into memory; in an object store they are streamed. Raises UsageError if it
    cannot be opened.
    """
    try:
        table = None if path.is_remote else saved_table(path)
        schema = _schema_of_saved(path) if table is None else table.schema
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UsageError(
            f"{path.name} is not a `datasets` directory that can be opened: {first_line(error)}."
        ) from error
    return SavedDataset(path, dict(zip(schema.names, schema.types, strict=True)), table)


def batches_of_saved(path: Place) -> Iterator[pa.RecordBatch]:
    """Stream the record batches of a saved directory, file after file."""
    for name in _files_of_saved(path):
        with path.join(name).open() as file, pa.ipc.open_stream(file) as batches:
            yield from batches


def cell_of_saved(path: Place, row: int, column: str) -> object:
    """Return one cell of a saved directory. Raises IndexError if there is no such row."""
    if not path.is_remote:
        return saved_table(path).column(column)[row].as_py()
    for batch in batches_of_saved(path):
        if row < batch.num_rows:
            return batch.column(column)[row].as_py()
        row -= batch.num_rows
    raise IndexError(row)


def saved_table(path: Place) -> pa.Table:
    """Map the rows of a saved directory on this machine into memory. Raises as opening files and JSON does."""
    return _mapped(path, (Path(str(path)) / "state.json").stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _mapped(path: Place, _changed: int) -> pa.Table:
    files = [pa.memory_map(str(path.join(name))) for name in _files_of_saved(path)]
    return pa.concat_tables(pa.ipc.open_stream(file).read_all() for file in files)


def _schema_of_saved(path: Place) -> pa.Schema:
    with path.join(_files_of_saved(path)[0]).open() as file, pa.ipc.open_stream(file) as batches:
        return batches.schema


def _files_of_saved(path: Place) -> list[str]:
    with path.join("state.json").open() as file:
        return [str(entry["filename"]) for entry in json.load(file)["_data_files"]]


# Pages are read one by one; by default a whole column of a row group, gigabytes of images perhaps, is.
_READ_AHEAD: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Rows of Parquet files, numbered through; columns that a file lacks are null there."""

    folder: Place
    files: tuple[tuple[Place, int], ...]
    types: Mapping[str, pa.DataType]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(rows for _, rows in self.files)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read these columns of every row; what is damaged gives a Reject for each row group or file."""
        for read in self.batches(names, BATCH):
            if isinstance(read, Reject):
                yield read
            else:
                number, batch, file, start = read
                yield from rows_of_batch(batch, number, (file.relative_to(self.folder), str(file)), start)

    def batches(self, names: Sequence[str], size: int) -> Iterator[tuple[int, pa.RecordBatch, Place, int] | Reject]:
        """Give so many rows at a time: number of the first in the source, from 1; the rows; file and place there."""
        first = 1
        for path, count in self.files:
            shown = path.relative_to(self.folder)
            try:
                with opened_parquet(path) as file:
                    for read in _batches_of_file(file, names, size, shown):
                        if isinstance(read, Reject):
                            yield replace(read, row=first + read.row)
                        else:
                            yield first + read[0], read[1], path, read[0]
            except (OSError, pa.ArrowException) as error:
                reason = f"The file, {count} rows, cannot be read: {first_line(error)}."
                yield Reject(first, None, "", reason, shown, hides_rows=True, rows=count)
            first += count


def _batches_of_file(
    file: pq.ParquetFile, names: Sequence[str], size: int, shown: str
) -> Iterator[tuple[int, pa.RecordBatch] | Reject]:
    present = [name for name in names if name in file.schema_arrow.names]
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(size, row_groups=[group], columns=present):
                yield start, batch
                start += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            reason = f"{end - start} rows from here on are damaged: {first_line(error)}."
            yield Reject(start, None, "", reason, f"{shown} row {start + 1}", hides_rows=True, rows=end - start)
        start = end


def open_parquet(path: Place, files: Sequence[Place] | None = None) -> ParquetFiles:
    """Open a Parquet file, or these in a folder, columns united.

    Raises UsageError if a file is not Parquet or names a column twice.
    """
    types: dict[str, pa.DataType] = {}
    counted: list[tuple[Place, int]] = []
    for file in [path] if files is None else files:
        try:
            with opened_parquet(file) as data:
                footer = data.metadata
            schema = footer.schema.to_arrow_schema()
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{file.name} is not a Parquet file that can be read: {first_line(error)}.") from error
        twice = [name for name, times in Counter(schema.names).items() if times > 1]
        if twice:
            raise UsageError(f"{file.name} has two columns named {twice[0]!r}: rename one.")
        _unite(types, schema)
        counted.append((file, footer.num_rows))
    return ParquetFiles(path.parent if files is None else path, tuple(counted), types)


@contextmanager
def opened_parquet(path: Place) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file in such a way that memory holds a few pages of it."""
    if not path.is_remote:
        with pq.ParquetFile(str(path), buffer_size=_READ_AHEAD, pre_buffer=False) as file:
            yield file
        return
    with path.open(ahead=False) as data, pq.ParquetFile(data, buffer_size=_READ_AHEAD, pre_buffer=False) as file:
        yield file


def _unite(types: dict[str, pa.DataType], schema: pa.Schema) -> None:
    for column in schema:
        if types.get(column.name, column.type) == column.type:
            types[column.name] = column.type
        else:
            types[column.name] = common_type(metadata_type(types[column.name]), metadata_type(column.type))
