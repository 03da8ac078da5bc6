"""The table of items. A row's Lance row id is the row number that indexes see; it stays for the item's life."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmrec.errors import UsageError
from mmrec.items import Scalar
from mmrec.modality import Modality
from mmrec.store.tables import open_table, quoted

__all__ = ["RESERVED", "ItemTable", "StoredField", "StoredItem", "item_schema"]

FIELD_TYPE = pa.struct(
    [
        ("modality", pa.string()),
        ("column", pa.string()),
        ("hash", pa.binary(16)),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
OWN_COLUMNS = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("mmrec_digest", pa.binary(16)),
    pa.field("mmrec_text", pa.string()),
    pa.field("mmrec_fields", pa.list_(FIELD_TYPE)),
]
RESERVED = frozenset(column.name for column in OWN_COLUMNS)
"""Column names that metadata cannot have."""

IDS_PER_QUERY = 1000


@dataclass(frozen=True, slots=True)
class StoredField:
    """One content of a stored item.

    Attributes:
        modality: What it is.
        column: Where in the source it came from.
        hash: Content hash, the key of its vectors; None where the content is in quarantine.
        uri: Where the bytes are; None for text.
        size: Bytes of the file when it was read; None for text and for bytes inside a table.
        mtime_ns: Modification time of the file when it was read.

    """

    modality: Modality
    column: str
    hash: bytes | None
    uri: str | None = None
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One row of the table; `row` is -1 before it is committed."""

    id: str
    digest: bytes
    text: str | None
    fields: tuple[StoredField, ...]
    metadata: Mapping[str, Scalar]
    row: int = -1


def item_schema(metadata: pa.Schema) -> pa.Schema:
    """Columns of the table for a catalog's metadata. Raises UsageError for a name that the table cannot have."""
    odd = [name for name in metadata.names if not name.strip() or "." in name or "`" in name or name.startswith("_row")]
    if odd:
        raise UsageError(
            f"metadata column {odd[0]!r} cannot be stored: a name must not be blank, begin with _row, or have a dot "
            "or a backtick in it; rename it in the source or leave it out"
        )
    clash = RESERVED & set(metadata.names)
    if clash:
        msg = (
            f"metadata columns cannot be called {', '.join(sorted(clash))}; rename them in the source or leave them out"
        )
        raise UsageError(msg)
    return pa.schema([*OWN_COLUMNS, *metadata])


class ItemTable:
    """A snapshot of the items; commits made later are not seen until it is opened again."""

    def __init__(self, path: Path, version: int | None = None) -> None:
        self._table = open_table(path, version)

    @property
    def version(self) -> int:
        """Version of the snapshot, 0 before the first commit."""
        return self._table.version if self._table else 0

    @property
    def latest_version(self) -> int:
        """Version of the newest commit by anyone."""
        return self._table.latest_version if self._table else 0

    def __len__(self) -> int:
        """Number of items."""
        return self._table.count_rows() if self._table else 0

    @property
    def metadata_schema(self) -> pa.Schema:
        """The columns that `where` can name beside ``id``."""
        return pa.schema([f for f in self._table.schema if f.name not in RESERVED] if self._table else [])

    def rows(self, where: str | None = None) -> Int64[np.ndarray, "n"]:
        """Row numbers, ascending, of all items or of those a SQL expression lets pass.

        Raises UsageError where the expression cannot be used.
        """
        if self._table is None:
            return np.empty(0, dtype=np.int64)
        try:
            found = self._table.scanner(columns=[], filter=where, with_row_id=True).to_table()
        except (ValueError, OSError) as error:
            raise UsageError(self._bad_filter(where, error)) from error
        return np.sort(found["_rowid"].to_numpy().astype(np.int64))

    def changed_since(self, version: int) -> Int64[np.ndarray, "n"]:
        """Row numbers of items added or edited after a version."""
        return self.rows(f"_row_last_updated_at_version > {int(version)}")

    def by_id(self, ids: Sequence[str]) -> dict[str, StoredItem]:
        """The items of these ids, as far as they exist."""
        return {item.id: item for item in self._where_in("id", list(ids))}

    def by_row(self, rows: Sequence[int]) -> dict[int, StoredItem]:
        """The items of these row numbers, as far as they exist."""
        return {item.row: item for item in self._where_in("_rowid", [int(row) for row in rows])}

    def batches(self, size: int = 4096) -> Iterator[tuple[Int64[np.ndarray, "n"], list[tuple[StoredField, ...]]]]:
        """All items' row numbers and fields, a batch at a time."""
        if self._table is None:
            return
        scanner = self._table.scanner(columns=["mmrec_fields"], with_row_id=True, batch_size=size)
        for batch in scanner.to_batches():
            rows = batch.column("_rowid").to_numpy().astype(np.int64)
            yield rows, [_fields(entry) for entry in batch.column("mmrec_fields").to_pylist()]

    def ids(self, size: int = 65536) -> Iterator[list[str]]:
        """All ids, a batch at a time."""
        if self._table is not None:
            for batch in self._table.scanner(columns=["id"], batch_size=size).to_batches():
                yield batch.column("id").to_pylist()

    def _where_in(self, column: str, values: list[Any]) -> Iterator[StoredItem]:
        if self._table is None:
            return
        for start in range(0, len(values), IDS_PER_QUERY):
            wanted = f"{column} IN ({quoted(values[start : start + IDS_PER_QUERY])})"
            for row in self._table.scanner(filter=wanted, with_row_id=True).to_table().to_pylist():
                yield _stored(row)

    def _bad_filter(self, where: str | None, error: Exception) -> str:
        columns = ", ".join(["id", *self.metadata_schema.names])
        # The table's own words, without the names of its inner columns.
        reason = str(error).splitlines()[0].split(" Valid fields")[0].rsplit("error: ", 1)[-1][:160].rstrip(". ")
        example = "category = 'animals' AND price < 10, with `odd names` in backticks"
        return f"the filter {where!r} cannot be used: {reason}. Columns: {columns}. Example: {example}"


def _stored(row: dict[str, Any]) -> StoredItem:
    return StoredItem(
        id=row.pop("id"),
        digest=row.pop("mmrec_digest"),
        text=row.pop("mmrec_text"),
        fields=_fields(row.pop("mmrec_fields")),
        row=row.pop("_rowid"),
        metadata=row,
    )


def _fields(entries: list[dict[str, Any]] | None) -> tuple[StoredField, ...]:
    return tuple(StoredField(**{**entry, "modality": Modality(entry["modality"])}) for entry in entries or ())
