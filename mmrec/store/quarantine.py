"""What could not be read, decoded or encoded, and why. Nothing is dropped in silence."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import lance
import pyarrow as pa

from mmrec.store.tables import open_table, writing

__all__ = ["Quarantined", "forget", "quarantined", "replace_quarantine"]

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
    ]
)


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


def quarantined(path: Path) -> list[Quarantined]:
    """All entries, in source order."""
    table = open_table(path)
    entries = [] if table is None else [Quarantined(**row) for row in table.to_table().to_pylist()]
    return sorted(entries, key=lambda entry: (entry.source_row, entry.column))


def replace_quarantine(path: Path, entries: Sequence[Quarantined]) -> None:
    """Write the entries of a run over those of the run before, in one commit. Hold the commit lock."""
    now = datetime.now(UTC)
    rows = [{**asdict(entry), "at": entry.at or now} for entry in entries]
    mode = "overwrite" if path.exists() else "create"
    with writing(path):
        lance.write_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), str(path), mode=mode)


def forget(path: Path, ids: Collection[str]) -> None:
    """Drop the entries of deleted items. Hold the commit lock."""
    entries = quarantined(path)
    kept = [entry for entry in entries if entry.id not in ids]
    if len(kept) < len(entries):
        replace_quarantine(path, kept)
