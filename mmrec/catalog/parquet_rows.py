"""Rows of Parquet files, one or a folder of them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.catalog.arrow_rows import BATCH, rows_of_batch
from mmrec.catalog.places import Place
from mmrec.catalog.rows import Row
from mmrec.catalog.scalars import common_type, metadata_type
from mmrec.catalog.storage import first_line
from mmrec.errors import UsageError
from mmrec.items import Reject

__all__ = ["open_parquet", "opened_parquet"]

# Pages are read one by one; by default a whole column of a row group, gigabytes of pictures perhaps, is.
_READ_AHEAD: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Parquet:
    folder: Place
    files: tuple[tuple[Place, int], ...]
    types: Mapping[str, pa.DataType]

    @property
    def count(self) -> int:
        return sum(rows for _, rows in self.files)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        first = 1
        for path, count in self.files:
            try:
                with opened_parquet(path) as file:
                    yield from self._rows_of_file(file, path, first, names)
            except (OSError, pa.ArrowException) as error:
                reason = f"The file, {count} rows, cannot be read: {first_line(error)}."
                yield Reject(first, None, "", reason, path.inside(self.folder), hides_rows=True)
            first += count

    def _rows_of_file(
        self, file: pq.ParquetFile, path: Place, first: int, names: Sequence[str]
    ) -> Iterator[Row | Reject]:
        present = [name for name in names if name in file.schema_arrow.names]
        shown = path.inside(self.folder)
        start = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            done = 0
            try:
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=present):
                    yield from rows_of_batch(batch, first + start + done, (shown, str(path)), start + done)
                    done += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                reason = f"{count - done} rows from here on are damaged: {first_line(error)}."
                where = f"{shown} row {start + done + 1}"
                yield Reject(first + start + done, None, "", reason, where, hides_rows=True)
            start += count


def open_parquet(path: Place, files: Sequence[Place] | None = None) -> _Parquet:
    """Open a Parquet file, or these in a folder, columns united.

    Raises UsageError where a file is not Parquet or names a column twice.
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
    return _Parquet(path.parent if files is None else path, tuple(counted), types)


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
