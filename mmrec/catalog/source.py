"""A catalog, wherever it lies, as a stream of items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mmrec.catalog.assemble import assemble
from mmrec.catalog.column_types import TextByFew, TypesFound
from mmrec.catalog.columns import ColumnSpec, check_columns
from mmrec.catalog.hub_rows import HubReader
from mmrec.catalog.openers import open_reader
from mmrec.catalog.patterns import is_pattern
from mmrec.catalog.places import place
from mmrec.catalog.rows import Reader, Row
from mmrec.catalog.scalars import schema_of
from mmrec.catalog.seen import SeenIds
from mmrec.catalog.storage import first_line
from mmrec.errors import MmrecError, SourceError, UsageError
from mmrec.items import Item, Reject, Removal

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A source opened with its columns. Iterate it, as often as you like, for items and rejects in source order.

    Memory does not grow with the source but for eight bytes an id, by which duplicates are found: the first is kept.
    Rows that only say that an item is to go give a Removal. Iterating raises SourceError where the source cannot be
    read on, as when an object store fails.

    Attributes:
        address: The file, folder or data set that bytes inside its tables and archives lie in.
        columns: Which columns are what.
        metadata_schema: Names and types of the metadata columns.
        reader: The rows behind it.

    """

    address: str
    columns: ColumnSpec
    metadata_schema: pa.Schema
    reader: Reader

    @property
    def text_by_few(self) -> Sequence[TextByFew]:
        """Metadata columns that are text because of a few values that are not what most of the column is."""
        found = self.reader.found.text_by_few() if isinstance(self.reader, TypesFound) else ()
        text = {column.name for column in self.metadata_schema if pa.types.is_string(column.type)}
        return [one for one in found if one.column in text]

    def is_empty(self, column: str) -> bool:
        """Whether a column is known to have no value in it."""
        return bool(pa.types.is_null(self.reader.types[column]))

    @property
    def count(self) -> int | None:
        """Number of rows, rejects included, where it is known."""
        return self.reader.count

    def __iter__(self) -> Iterator[Item | Removal | Reject]:
        seen = SeenIds()
        for row in self._rows():
            if isinstance(row, Reject):
                yield row
                continue
            for result in assemble(row, self.columns, self.metadata_schema, self.reader.folder):
                if isinstance(result, Reject):
                    yield result
                elif result.id in seen:
                    reason = f"An earlier row has the same id, {result.id!r}; it was kept. Ids must be unique."
                    yield Reject(result.row, result.id, self.columns.id, reason, result.where)
                else:
                    seen.add(result.id)
                    yield result

    def _rows(self) -> Iterator[Row | Reject]:
        rows = self.reader.rows(self.columns.names)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except MmrecError:
                raise
            except Exception as error:
                if not isinstance(error, OSError | EOFError) and not self.reader.folder.is_remote:
                    raise
                raise SourceError(
                    f"{self.address} cannot be read on: {first_line(error)}. What was encoded is kept: put it right, "
                    "and run the same command again."
                ) from error
            yield row


def open_source(
    address: str | Path,
    columns: ColumnSpec,
    types: Mapping[str, pa.DataType] | None = None,
    encoding: str | None = None,
) -> Source:
    """Open a catalog by its path or URL.

    It may be a Parquet, JSON Lines or CSV file; a WebDataset archive; a pattern such as ``shard-{000..099}.tar``; a
    folder of Parquet files, of archives or of media; a saved `datasets` directory; or a hub data set,
    ``hf:owner/name?split=train``. URLs are ``s3://``, ``gs://``, ``memory://`` and ``file://``.

    `types` says what some metadata columns hold, whatever is found in them; a value that is none of these is left out
    of its item, with the reason in quarantine. `encoding` is that of a CSV file which is not UTF-8.

    Raises UsageError where there is no such source, or it lacks one of the columns.
    """
    reader = open_reader(address, encoding)
    check_columns(columns, tuple(reader.types))
    binary = [name for name in columns.metadata if _is_binary(reader.types[name])]
    if binary:
        raise UsageError(f"Column {binary[0]!r} holds bytes, which cannot be metadata; leave it out of the metadata.")
    return Source(_home(address, reader), columns, _schema(columns, reader, types or {}), reader)


def _schema(columns: ColumnSpec, reader: Reader, types: Mapping[str, pa.DataType]) -> pa.Schema:
    stray = [name for name in types if name not in columns.metadata]
    if stray:
        named = ", ".join(map(repr, columns.metadata)) or "none"
        raise UsageError(f"A type is given for {stray[0]!r}, which is no metadata column; these are {named}.")
    return schema_of(columns.metadata, {**reader.types, **types})


def _home(address: str | Path, reader: Reader) -> str:
    if isinstance(reader, HubReader):
        return reader.address
    return str(reader.folder if is_pattern(str(address)) else place(address))


def _is_binary(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype))
