"""The quarantine table: contents and rows that could not be read, decoded or encoded, and why."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64
from lance.dataset import ColumnOrdering

from mmrec.sources.rows import SeenIds
from mmrec.storage.scratch import ROWS_PER_FLUSH, StagedRows
from mmrec.storage.tables import append, convert_write_errors, open_table, quoted, value_filters
from mmrec.storage.vectors import key_column
from mmrec.types import Value

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


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One content, or one whole source row, that could not be used.

    Attributes:
        source_row: Row of the source, from 1.
        id: The item's id; None where the row had none.
        column: The field; empty for the whole row.
        reason: One sentence.
        hash: Hash of a content that was read but is not usable; it is not tried again while it stays the same.
        uri: Address of the bytes.
        size: Bytes of the file when it was read.
        mtime_ns: Modification time of the file when it was read.
        at: When it was quarantined, UTC.
        modality: What the content was decoded as; None for a row. A video without audio may still be an image.
        transient: Whether another run may succeed, as after a lack of memory; the content is then tried again.
        where: File and line, row or member of the source, as in ``catalog.csv line 5``.
        item: Text and metadata, as JSON, of an item without any usable content; None where it is in the table of items.

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
    """Text and metadata of an item without any usable content, so that it can be retried without its source."""
    return json.dumps({"text": text, "metadata": dict(metadata)}, default=lambda moment: moment.isoformat())


class StagedQuarantine(StagedRows):
    """The entries of a run that will be written into the table."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "quarantine.parquet", SCHEMA)
        self._now = datetime.now(UTC)

    def add(self, entry: Quarantined) -> None:
        """Stage one entry. Raises StoreError where it cannot be written."""
        self.add_row(_as_row(entry, self._now))

    def __iter__(self) -> Iterator[Quarantined]:
        """All entries, in order of arrival. Close first."""
        return chain.from_iterable(map(_entries, self.read()))


def read_quarantine(path: Path, version: int | None = None) -> Iterator[Quarantined]:
    """All entries, in order of arrival, a batch in memory at a time."""
    table = open_table(path, version)
    if table is not None:
        for batch in table.scanner(batch_size=ROWS_PER_FLUSH).to_batches():
            yield from _entries(batch)


def list_quarantined(path: Path, limit: int | None = None) -> list[Quarantined]:
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
    """Replace all entries in one commit. Hold the commit lock."""
    now = datetime.now(UTC)
    source = iter(entries)
    batches = (_as_batch(rows, now) for rows in iter(lambda: list(islice(source, ROWS_PER_FLUSH)), []))
    with convert_write_errors(path):
        reader = pa.RecordBatchReader.from_batches(SCHEMA, batches)
        lance.write_dataset(reader, str(path), mode="overwrite" if path.exists() else "create")


def amend_quarantine(path: Path, gone: Collection[str], fresh: Iterable[Quarantined]) -> None:
    """Replace the entries of some items; others are neither read nor written. Hold the commit lock."""
    delete_quarantined(path, gone)
    _append(path, fresh)


def replace_column(path: Path, column: str, fresh: Iterable[Quarantined]) -> None:
    """Replace the entries of one column. Hold the commit lock."""
    _delete(path, f"`column` = {quoted([column])}")
    _append(path, fresh)


def _append(path: Path, fresh: Iterable[Quarantined]) -> None:
    now = datetime.now(UTC)
    source = iter(fresh)
    while rows := list(islice(source, ROWS_PER_FLUSH)):
        table = open_table(path)
        if table is not None and table.schema.names != SCHEMA.names:  # of an earlier version, with fewer columns
            replace_quarantine(path, read_quarantine(path))
        append(path, pa.Table.from_batches([_as_batch(rows, now)]))


def quarantined_items(path: Path, ids: Collection[str]) -> Iterator[Quarantined]:
    """The entries of some items."""
    table = open_table(path)
    if table is not None:
        for wanted in value_filters("id", sorted(ids)):
            yield from _entries(table.scanner(filter=wanted).to_table())


def delete_quarantined(path: Path, ids: Collection[str]) -> None:
    """Drop the entries of deleted items. Hold the commit lock."""
    for wanted in value_filters("id", sorted(ids)):
        _delete(path, wanted)


def _delete(path: Path, wanted: str) -> None:
    table = open_table(path)
    if table is not None and table.count_rows(wanted):  # the deletion of nothing would be a commit too
        with convert_write_errors(path):
            table.delete(wanted)


def _entries(rows: pa.RecordBatch | pa.Table) -> Iterator[Quarantined]:
    return (Quarantined(**row) for row in rows.to_pylist())


def _as_batch(entries: list[Quarantined], now: datetime) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([_as_row(entry, now) for entry in entries], schema=SCHEMA)


def _as_row(entry: Quarantined, now: datetime) -> dict[str, Any]:
    return {**asdict(entry), "at": entry.at or now}


class QuarantineSnapshot:
    """A snapshot of the quarantine; only digests are in memory, entries are read when needed."""

    def __init__(self, path: Path) -> None:
        self._table = open_table(path)
        ids: list[int] = []
        places: list[int] = []
        words: list[np.ndarray] = []
        hash_places: list[np.ndarray] = []
        start = 0
        scan = self._table.scanner(columns=["id", "hash"]).to_batches() if self._table is not None else ()
        for batch in scan:
            for place, name in enumerate(batch.column("id").to_pylist(), start):
                if name is not None:
                    ids.append(_digest(name))
                    places.append(place)
            has = batch.column("hash").is_valid()
            words.append(key_column(batch.column("hash").drop_null())[:, 0])
            hash_places.append(np.flatnonzero(has.to_numpy(zero_copy_only=False)) + start)
            start += len(batch)
        self._by_id = _DigestIndex(np.array(ids, dtype=np.uint64), np.array(places, dtype=np.int64))
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *words])
        self._by_hash = _DigestIndex(hashes, np.concatenate([np.empty(0, dtype=np.int64), *hash_places]))
        self._count = start

    def __len__(self) -> int:
        """Number of entries."""
        return self._count

    @property
    def version(self) -> int | None:
        """Version of the table, None where there is none."""
        return self._table.version if self._table is not None else None

    def of_ids(self, ids: Sequence[str]) -> dict[str, list[Quarantined]]:
        """The entries of these items, as far as there are any."""
        if not self._count:
            return {}
        wanted = set(ids)
        found: dict[str, list[Quarantined]] = {}
        for entry in self._read(self._by_id.of([_digest(name) for name in ids])):
            if entry.id in wanted:
                found.setdefault(entry.id, []).append(entry)
        return found

    def of_contents(self, contents: Sequence[bytes]) -> list[Quarantined]:
        """The entries of contents, whatever modality they were decoded as."""
        words = [int.from_bytes(content[:8], "little") for content in contents] if self._count else []
        wanted = set(contents)
        return [entry for entry in self._read(self._by_hash.of(words)) if entry.hash in wanted]

    def _read(self, places: Int64[np.ndarray, " n"]) -> Iterable[Quarantined]:
        if self._table is None or not len(places):
            return []
        return [Quarantined(**row) for row in self._table.take(places.tolist()).to_pylist()]


class KnownFailures:
    """Permanently unusable contents, looked up in a snapshot; none without one."""

    def __init__(self, snapshot: QuarantineSnapshot | None) -> None:
        self._snapshot = snapshot

    def of(self, contents: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], Quarantined]:
        """The entries of those contents, by modality and hash, that are known to be bad."""
        if self._snapshot is None or not contents:
            return {}
        found: dict[tuple[str, bytes], Quarantined] = {}
        for entry in self._snapshot.of_contents([content for _, content in contents]):
            if entry.hash is not None and entry.modality is not None and not entry.transient:
                found.setdefault((entry.modality, entry.hash), entry)
        wanted = set(contents)
        return {key: entry for key, entry in found.items() if key in wanted}


def added_since(snapshot: QuarantineSnapshot, path: Path) -> Iterator[Quarantined]:
    """Entries of the quarantine now that are not in a snapshot."""
    table = open_table(path)
    if table is None or table.version == snapshot.version:
        return
    before = SeenIds()
    if snapshot.version is not None:
        for entry in read_quarantine(path, snapshot.version):
            before.add(repr(entry))
    yield from (entry for entry in read_quarantine(path) if repr(entry) not in before)


class _DigestIndex:
    """The places of each 64-bit digest, of which some may be equal."""

    def __init__(self, digests: UInt64[np.ndarray, " n"], places: Int64[np.ndarray, " n"]) -> None:
        order = np.argsort(digests, kind="stable")
        self._digests = digests[order]
        self._places = places[order]

    def of(self, digests: Sequence[int]) -> Int64[np.ndarray, " m"]:
        """The places of all of these, ascending."""
        wanted = np.array(digests, dtype=np.uint64)
        starts = np.searchsorted(self._digests, wanted, side="left")
        ends = np.searchsorted(self._digests, wanted, side="right")
        runs = [self._places[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if b > a]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *runs]))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
