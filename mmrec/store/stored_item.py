"""An item as it lies in the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mmrec.items import Value
from mmrec.modality import Modality

__all__ = ["StoredField", "StoredItem", "as_fields", "as_item"]

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
