"""An item as a row of the item table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.types import Modality, Value

__all__ = ["OWN_COLUMNS", "RESERVED", "StoredField", "StoredItem", "as_fields", "as_item", "item_schema"]


_MODALITIES: Final = {str(modality): modality for modality in Modality}


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
    metadata: Mapping[str, Value]
    row: int = -1


def as_item(row: dict[str, Any]) -> StoredItem:
    """An item from its row, which is used up."""
    return StoredItem(
        id=row.pop("id"),
        digest=row.pop("mmrec_digest"),
        text=row.pop("mmrec_text"),
        fields=as_fields(row.pop("mmrec_fields")),
        row=row.pop("_rowid", -1),
        metadata=row,
    )


def as_fields(entries: list[dict[str, Any]] | None) -> tuple[StoredField, ...]:
    """Fields as they lie in the column ``mmrec_fields``."""
    return tuple(
        StoredField(
            _MODALITIES[entry["modality"]],
            entry["column"],
            entry["hash"],
            entry["uri"],
            entry["size"],
            entry["mtime_ns"],
        )
        for entry in entries or ()
    )


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


def item_schema(metadata: pa.Schema) -> pa.Schema:
    """Columns of the table for a catalog's metadata. Raises UsageError for a name that the table cannot have."""
    odd = [name for name in metadata.names if not _is_fit(name)]
    if odd:
        raise UsageError(
            f"metadata column {odd[0]!r} cannot be stored: a name must not be 'id' or blank, begin with _row or mmrec_,"
            " or have a dot, a backtick or a control character in it; rename it in the source or leave it out"
        )
    return pa.schema([*OWN_COLUMNS, *metadata])


def _is_fit(name: str) -> bool:
    reserved = name in RESERVED or name.startswith(("_row", "mmrec_"))
    return bool(name.strip()) and name.isprintable() and not reserved and not set(name) & {".", "`"}
