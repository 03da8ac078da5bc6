"""Rows of Parquet files and of saved `datasets` directories."""

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.catalog.rows import Row, Unreadable
from mmrec.catalog.scalars import metadata_type, widen
from mmrec.errors import UsageError
from mmrec.items import Reject

__all__ = ["open_dataset", "open_parquet"]

# Rows can hold pictures of megabytes.
_BATCH: Final = 64
# Pages are read one by one; by default a whole column of a row group, gigabytes of pictures perhaps, is.
_READ_AHEAD: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Parquet:
    folder: Path
    files: tuple[tuple[Path, int], ...]
    types: Mapping[str, pa.DataType]

    @property
    def count(self) -> int:
        return sum(rows for _, rows in self.files)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        first = 0
        for path, count in self.files:
            try:
                with pq.ParquetFile(path, buffer_size=_READ_AHEAD, pre_buffer=False) as file:
                    yield from _rows_of_file(file, path, first, names)
            except (OSError, pa.ArrowException) as error:
                yield Reject(
                    first, None, "", f"{path.name}, {count} rows from here, cannot be read: {_first_line(error)}."
                )
            first += count


def open_parquet(path: Path) -> _Parquet:
    """Open a Parquet file, or all of them in a directory in order of their names, columns united.

    Raises UsageError where a file is not Parquet or names a column twice.
    """
    paths = [path] if path.is_file() else sorted(file for file in path.rglob("*.parquet") if _is_shown(file, path))
    types: dict[str, pa.DataType] = {}
    files: list[tuple[Path, int]] = []
    for file in paths:
        try:
            footer = pq.read_metadata(file)
            schema = footer.schema.to_arrow_schema()
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{file.name} is not a Parquet file that can be read: {_first_line(error)}.") from error
        twice = [name for name, times in Counter(schema.names).items() if times > 1]
        if twice:
            raise UsageError(f"{file.name} has two columns named {twice[0]!r}: rename one.")
        _unite(types, schema)
        files.append((file, footer.num_rows))
    return _Parquet(path.parent if path.is_file() else path, tuple(files), types)


def _unite(types: dict[str, pa.DataType], schema: pa.Schema) -> None:
    for column in schema:
        if types.get(column.name, column.type) == column.type:
            types[column.name] = column.type
        else:
            types[column.name] = metadata_type(types[column.name])
            widen(types, [(column.name, metadata_type(column.type))])


def _is_shown(file: Path, folder: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)


def _rows_of_file(file: pq.ParquetFile, path: Path, first: int, names: Sequence[str]) -> Iterator[Row | Reject]:
    present = [name for name in names if name in file.schema_arrow.names]
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        done = 0
        try:
            for batch in file.iter_batches(_BATCH, row_groups=[group], columns=present):
                yield from _rows_of_batch(batch, first + start + done, path, start + done)
                done += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            reason = f"{count - done} rows from here on in {path.name} are damaged: {_first_line(error)}."
            yield Reject(first + start + done, None, "", reason)
        start += count


@dataclass(frozen=True, slots=True)
class _Dataset:
    folder: Path
    dataset: Any
    types: Mapping[str, pa.DataType]

    @property
    def count(self) -> int:
        return len(self.dataset)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        first = 0
        for table in self.dataset.select_columns(list(names)).iter(_BATCH):
            yield from _rows_of_batch(table, first, self.folder, first)
            first += table.num_rows


def open_dataset(path: Path) -> _Dataset:
    """Open a directory written by `Dataset.save_to_disk`; its pictures and sounds stay the bytes they are.

    Raises UsageError where it cannot be opened.
    """
    datasets = importlib.import_module("datasets")
    try:
        # The Arrow format hands out the stored table: nothing decodes, so no decoder need be installed.
        dataset = datasets.load_from_disk(str(path)).with_format("arrow")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UsageError(
            f"{path.name} is not a `datasets` directory that can be opened: {_first_line(error)}."
        ) from error
    schema = dataset.features.arrow_schema
    return _Dataset(path, dataset, dict(zip(schema.names, schema.types, strict=True)))


def _rows_of_batch(batch: pa.RecordBatch | pa.Table, number: int, table: Path, table_row: int) -> Iterator[Row]:
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for place in range(batch.num_rows):
        values = {name: column[place] for name, column in columns.items()}
        yield Row(number + place, values, table, table_row + place)


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
