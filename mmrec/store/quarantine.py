"""What could not be read, decoded or encoded, and why. Nothing is dropped in silence.

A run's entries go to a file first, and from there into the table, so that a catalog of which much is broken costs disk
and not memory.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
from lance.dataset import ColumnOrdering

from mmrec.items import Value
from mmrec.store.tables import append, open_table, quoted, writing

__all__ = [
    "Quarantined",
    "StagedQuarantine",
    "amend_quarantine",
    "count_quarantined",
    "dump_item",
    "forget",
    "quarantined",
    "quarantined_of",
    "read_quarantine",
    "replace_column",
    "replace_quarantine",
]

SCHEMA = pa.schema(
    [
        ("source_row", pa.int64()),
        ("id", pa.string()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("hash", pa.binary(16)),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("modality", pa.string()),
        ("transient", pa.bool_()),
        ("where", pa.string()),
        ("item", pa.string()),
    ]
)

ROWS_PER_FLUSH = 4096
IDS_PER_DELETE = 1000


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One content, or one whole source row, that is left out.

    Attributes:
        source_row: Row of the source, from 1.
        id: The item's id; None where the row had none.
        column: The field; empty where the whole row is meant.
        reason: One sentence.
        hash: Hash of a content that was read but is not usable; it is not tried again while it stays the same.
        uri: Where the bytes are.
        size: Bytes of the file when it was read.
        mtime_ns: Modification time of the file when it was read.
        at: When it was found, UTC.
        modality: What the content was taken for; None for a row. A film without sound may still be a picture.
        transient: Whether another run may have more luck, as after a lack of memory; the content is then tried again.
        where: File and line, row or member of the source, as in ``catalog.csv line 5``.
        item: Text and metadata of an item of which nothing is left, as JSON; None where it is in the table of items.

    """

    source_row: int
    id: str | None
    column: str
    reason: str
    hash: bytes | None = None
    uri: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    at: datetime | None = None
    modality: str | None = None
    transient: bool = False
    where: str | None = None
    item: str | None = None


def dump_item(text: str | None, metadata: Mapping[str, Value]) -> str:
    """What quarantine keeps of an item of which nothing is left, so that it can be tried again without its source."""
    return json.dumps({"text": text, "metadata": dict(metadata)}, default=lambda moment: moment.isoformat())


class StagedQuarantine:
    """The entries of a run on their way into the table: kept in one Parquet file, so that memory stays bounded."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "quarantine.parquet"
        self._writer = pq.ParquetWriter(self._path, SCHEMA)
        self._pending: list[Quarantined] = []
        self._now = datetime.now(UTC)
        self.count = 0

    def add(self, entry: Quarantined) -> None:
        """Stage one entry. Raises StoreError where it cannot be written."""
        self._pending.append(entry)
        self.count += 1
        if len(self._pending) >= ROWS_PER_FLUSH:
            self._flush()

    def close(self) -> None:
        """Finish the file, so that it can be read; a second call does nothing."""
        if self._writer.is_open:
            self._flush()
            with writing(self._path):
                self._writer.close()

    def __iter__(self) -> Iterator[Quarantined]:
        """All entries, in the order in which they came. Close first."""
        for batch in pq.ParquetFile(self._path).iter_batches(ROWS_PER_FLUSH):
            yield from _entries(batch)

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        with writing(self._path):
            self._writer.write_batch(_as_batch(rows, self._now))


def read_quarantine(path: Path, version: int | None = None) -> Iterator[Quarantined]:
    """All entries, in the order in which they were found, a batch in memory at a time."""
    table = open_table(path, version)
    if table is not None:
        for batch in table.scanner(batch_size=ROWS_PER_FLUSH).to_batches():
            yield from _entries(batch)


def quarantined(path: Path, limit: int | None = None) -> list[Quarantined]:
    """Entries in the order of their source rows: all, or the first few."""
    table = open_table(path)
    if table is None:
        return []
    if limit is None:
        return sorted(read_quarantine(path), key=lambda entry: (entry.source_row, entry.column))
    order: list[ColumnOrdering | str] = [ColumnOrdering("source_row"), ColumnOrdering("column")]
    return list(_entries(table.scanner(limit=limit, order_by=order).to_table()))


def count_quarantined(path: Path) -> int:
    """Number of entries."""
    table = open_table(path)
    return 0 if table is None else table.count_rows()


def replace_quarantine(path: Path, entries: Iterable[Quarantined]) -> None:
    """Write entries over those that are there, in one commit. Hold the commit lock."""
    now = datetime.now(UTC)
    source = iter(entries)
    batches = (_as_batch(rows, now) for rows in iter(lambda: list(islice(source, ROWS_PER_FLUSH)), []))
    with writing(path):
        reader = pa.RecordBatchReader.from_batches(SCHEMA, batches)
        lance.write_dataset(reader, str(path), mode="overwrite" if path.exists() else "create")


def amend_quarantine(path: Path, gone: Collection[str], fresh: Iterable[Quarantined]) -> None:
    """Drop the entries of some items and add others. Hold the commit lock.

    What is not concerned is neither read nor written.
    """
    forget(path, gone)
    _append(path, fresh)


def replace_column(path: Path, column: str, fresh: Iterable[Quarantined]) -> None:
    """Write entries over those of one column. Hold the commit lock."""
    table = open_table(path)
    wanted = f"`column` = {quoted([column])}"
    if table is not None and table.count_rows(wanted):
        with writing(path):
            table.delete(wanted)
    _append(path, fresh)


def _append(path: Path, fresh: Iterable[Quarantined]) -> None:
    now = datetime.now(UTC)
    source = iter(fresh)
    while rows := list(islice(source, ROWS_PER_FLUSH)):
        if _lacks_columns(path):
            replace_quarantine(path, read_quarantine(path))
        append(path, pa.Table.from_batches([_as_batch(rows, now)]))


def quarantined_of(path: Path, ids: Collection[str]) -> Iterator[Quarantined]:
    """The entries of some items."""
    table = open_table(path)
    if table is None:
        return
    some = sorted(ids)
    for start in range(0, len(some), IDS_PER_DELETE):
        wanted = f"id IN ({quoted(some[start : start + IDS_PER_DELETE])})"
        yield from _entries(table.scanner(filter=wanted).to_table())


def forget(path: Path, ids: Collection[str]) -> None:
    """Drop the entries of deleted items. Hold the commit lock."""
    table = open_table(path)
    if table is None:
        return
    some = sorted(ids)
    for start in range(0, len(some), IDS_PER_DELETE):
        wanted = f"id IN ({quoted(some[start : start + IDS_PER_DELETE])})"
        if table.count_rows(wanted):  # the deletion of nothing would be a commit too
            with writing(path):
                table.delete(wanted)


def _lacks_columns(path: Path) -> bool:
    """Whether a table was written before entries had all the columns they have now."""
    table = open_table(path)
    return table is not None and table.schema.names != SCHEMA.names


def _entries(rows: pa.RecordBatch | pa.Table) -> Iterator[Quarantined]:
    return (Quarantined(**row) for row in rows.to_pylist())


def _as_batch(entries: list[Quarantined], now: datetime) -> pa.RecordBatch:
    rows: list[dict[str, Any]] = [{**asdict(entry), "at": entry.at or now} for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
