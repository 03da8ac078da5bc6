"""Open a source of events, guess its columns, and read its rows by column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.events.event import EventColumns, RawEvents, RefusedRow
from mmrec.sources.arrow_files import ParquetFiles
from mmrec.sources.columns import listed_columns, plain_name
from mmrec.sources.rows import Reader, Row
from mmrec.sources.source import media_base, open_reader
from mmrec.sources.text_tables import DelimitedTable, TextTable
from mmrec.types import Reject

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user", "user_id", "userid", "customer_id", "person", "visitor_id", "visitorid", "session_id"),
    "item": ("item", "item_id", "itemid", "movie_id", "product_id", "article_id", "video_id", "track_id"),
    "time": ("time", "timestamp", "ts", "datetime", "event_time", "created_at", "date"),
    "kind": ("kind", "event", "event_type", "action", "type", "behavior", "behaviour"),
    "value": ("value", "rating", "score", "stars"),
    "id": ("event_id", "id"),
}
_ROWS_AT_ONCE: Final = 32_768
"""Large enough for work by column to pay, small enough that the rows stay within tens of megabytes."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """A source of events with its columns; `address`, an absolute path or URL, is the key of its refused rows."""

    address: str
    reader: Reader
    columns: EventColumns

    @property
    def count(self) -> int | None:
        """Number of rows, where it is known without reading them."""
        return None if isinstance(self.reader, TextTable) else self.reader.count

    def batches(self) -> Iterator[RawEvents]:
        """Read all rows, `_ROWS_AT_ONCE` at a time; unreadable rows are refused."""
        names = self.columns.names
        if isinstance(self.reader, ParquetFiles):
            yield from _of_parquet(self.reader, names)
        elif isinstance(self.reader, TextTable):
            for numbers, columns, rejects in self.reader.columns(names, _ROWS_AT_ONCE):
                yield RawEvents(np.array(numbers, dtype=np.int64), columns, tuple(map(_refused, rejects)))
        else:
            yield from _of_rows(self.reader, names)


def _of_rows(reader: Reader, names: Sequence[str]) -> Iterator[RawEvents]:
    rows = reader.rows(names)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        read = [row for row in some if isinstance(row, Row)]
        yield RawEvents(
            np.array([row.number for row in read], dtype=np.int64),
            {name: [row.values.get(name) for row in read] for name in names},
            tuple(_refused(row) for row in some if isinstance(row, Reject)),
        )


def _of_parquet(files: ParquetFiles, names: Sequence[str]) -> Iterator[RawEvents]:
    for read in files.batches(names, _ROWS_AT_ONCE):
        if isinstance(read, Reject):
            yield RawEvents(np.empty(0, dtype=np.int64), {}, (_refused(read),))
        else:
            number, batch = read[:2]
            columns = {
                name: batch.column(name) if name in batch.schema.names else pa.nulls(len(batch)) for name in names
            }
            yield RawEvents(np.arange(number, number + len(batch), dtype=np.int64), columns)


def _refused(row: Reject) -> RefusedRow:
    return RefusedRow(row.row, row.column, f"{row.where}: {row.reason}", count=row.rows)


def open_events(
    address: str | Path,
    given: Mapping[str, str | None] | None = None,
    context: tuple[str, ...] = (),
    one_kind: str | None = None,
    encoding: str | None = None,
) -> EventSource:
    """Open events from anything that a catalog is read from, MovieLens's and RecBole's files included.

    `given` names columns by part (``user``, ``item``, ``time``, ``kind``, ``value``, ``id``); those not given are
    guessed from the names of the columns. `context` columns are stored as they are, `one_kind` is the kind of all
    events, `encoding` the text encoding of a CSV file that is not UTF-8.

    Raises UsageError where there is no such source, its kind is unknown, or its columns cannot be guessed.
    """
    reader = open_reader(address, encoding, infer_types=False)
    if isinstance(reader, DelimitedTable):
        reader = replace(reader, strict=True)
    names = reader.names if isinstance(reader, TextTable) else tuple(reader.types)
    columns = _guess(names, given or {})
    if context:
        columns = replace(columns, context=context)
    if one_kind is not None:
        columns = replace(columns, kind=None, one_kind=one_kind)
    missing = [name for name in columns.names if name not in names]
    if missing:
        raise UsageError(f"The source has no column {missing[0]!r}. It has {listed_columns(names)}.")
    if len({columns.user, columns.item, columns.time}) < 3:
        raise UsageError("User, item and time must be three columns: name them with --user, --item and --time.")
    return EventSource(media_base(address, reader), reader, columns)


def _guess(known: Sequence[str], given: Mapping[str, str | None]) -> EventColumns:
    """Choose columns by what such columns are usually called.

    A source without a column of kinds has events of one kind: ``rate`` where it has a column of ratings, else ``view``.
    """
    found: dict[str, str | None] = {}
    for part, usual in _NAMES.items():
        found[part] = given.get(part) or _first(known, usual, {name for name in found.values() if name})
    missing = [part for part in ("user", "item", "time") if found[part] is None]
    if missing:
        options = " ".join(f"--{part} COL" for part in missing)
        raise UsageError(
            f"No column is called as the {missing[0]} usually is: add {options}. There are {listed_columns(known)}."
        )
    rated = found["value"] is not None and plain_name(found["value"]) in {"rating", "stars"}
    return EventColumns(
        **{part: name for part, name in found.items() if name is not None},
        context=("context",) if "context" in known else (),
        one_kind="rate" if rated else "view",
    )


def _first(known: Sequence[str], usual: Sequence[str], taken: set[str]) -> str | None:
    for name in usual:
        spellings = {name, name.replace("_", "")}
        alike = [column for column in known if column not in taken and plain_name(column) in spellings]
        if len(alike) > 1:
            raise UsageError(f"Columns {listed_columns(alike)} are called alike: name the one that is meant.")
        if alike:
            return alike[0]
    return None
