"""Items as rows of the item table, and the declared spaces of imported vectors."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mmrec.errors import SpaceMismatchError, StoreError, UsageError
from mmrec.files import write_atomically
from mmrec.storage.layout import Layout
from mmrec.types import Modality, Space, Value

_MODALITIES: Final = {str(modality): modality for modality in Modality}


@dataclass(frozen=True, slots=True)
class StoredField:
    """One content of a stored item.

    Attributes:
        modality: Its modality.
        column: Its column in the source.
        hash: Content hash, the key of its vectors; None where the content is in quarantine.
        uri: Address of the bytes; None for text.
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
    """Build an item from a row, which is consumed."""
    return StoredItem(
        id=row.pop("id"),
        digest=row.pop("mmrec_digest"),
        text=row.pop("mmrec_text"),
        fields=as_fields(row.pop("mmrec_fields")),
        row=row.pop("_rowid", -1),
        metadata=row,
    )


def as_fields(entries: list[dict[str, Any]] | None) -> tuple[StoredField, ...]:
    """Fields from the column ``mmrec_fields``."""
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


def as_table(items: Sequence[StoredItem], schema: pa.Schema) -> pa.Table:
    """Rows of the table, of which `as_item` reads one. Raises what Arrow does where metadata does not fit a column."""
    fields = [one for item in items for one in item.fields]
    parts = [pa.array([getattr(one, part.name) for one in fields], part.type) for part in FIELD_TYPE]
    ends = np.cumsum([0, *(len(item.fields) for item in items)], dtype=np.int32)
    texts = [None if item.text is None else item.text.encode("utf-8", "replace").decode() for item in items]
    own = {
        "id": pa.array([item.id for item in items], pa.string()),
        "mmrec_digest": pa.array([item.digest for item in items], pa.binary(16)),
        "mmrec_text": pa.array(texts, pa.string()),
        "mmrec_fields": pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(FIELD_TYPE))),
    }
    columns = [own[column.name] if column.name in own else _metadata_array(items, column) for column in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _metadata_array(items: Sequence[StoredItem], column: pa.Field) -> pa.Array:
    return pa.array([item.metadata.get(column.name) for item in items], column.type)


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


VECTOR_FIELD = "mmrec_vector:"
"""The column of a stored field that is nothing but an imported vector begins so; the space's name follows."""

_FINGERPRINT = re.compile(r"[A-Za-z0-9_-]{8,128}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


class DeclaredSpace(BaseModel):
    """A declared space of imported vectors.

    `fingerprint` is a hex digest over what made the vectors, `modality` that of their contents, `model` the model as
    the user named it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dim: int
    fingerprint: str
    modality: Modality
    model: str = ""

    @property
    def space(self) -> Space:
        """As a space."""
        return Space(self.name, self.dim, self.fingerprint)

    def __str__(self) -> str:
        """For messages."""
        made_by = f", by {self.model}" if self.model else ""
        return f"{self.dim} numbers of {self.modality}{made_by}, fingerprint {self.fingerprint[:12]}"


_LIST = TypeAdapter(list[DeclaredSpace])


def fingerprint_of(model: str, dim: int) -> str:
    """The fingerprint of vectors of which only the name of their model is known."""
    return hashlib.sha256(f"imported vectors\n{model}\n{dim}".encode()).hexdigest()


def is_imported(column: str) -> bool:
    """Whether a stored field, by its column, is an imported vector without a content."""
    return column.startswith(VECTOR_FIELD)


def read_declared(layout: Layout) -> list[DeclaredSpace]:
    """All declared spaces. Raises StoreError where their file is damaged."""
    path = _path(layout)
    try:
        return _LIST.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} cannot be read ({error}); restore it from a backup of the store") from error


def declared_spaces(layout: Layout) -> dict[Modality, tuple[Space, ...]]:
    """Declared spaces by modality."""
    found = read_declared(layout)
    return {
        modality: tuple(one.space for one in found if one.modality == modality)
        for modality in {one.modality for one in found}
    }


def check_declared(new: DeclaredSpace) -> None:
    """Raise UsageError for a name or fingerprint that cannot be part of a file's name."""
    if not _NAME.fullmatch(new.name):
        raise UsageError(
            f"a space cannot be called {new.name!r}: use lower case letters, digits, - and ., at most 63 of them"
        )
    if not _FINGERPRINT.fullmatch(new.fingerprint):
        raise UsageError(
            f"a fingerprint cannot be {new.fingerprint!r}: use letters, digits, - and _, from 8 to 128 of them, as the "
            "encoder gives it; or name the model with --model"
        )


def declare(layout: Layout, new: DeclaredSpace) -> None:
    """Declare a space, unless it is declared already. Hold the commit lock.

    Raises SpaceMismatchError where another one has its name, UsageError where it cannot have that name.
    """
    check_declared(new)
    there = read_declared(layout)
    other = next((one for one in there if one.name == new.name and one.space != new.space), None)
    if other is not None:
        raise SpaceMismatchError(
            f"space {new.name!r} of {layout.root} has {other}; these vectors have {new}, and the two cannot be "
            "compared. Import them under another name with --space"
        )
    if not any((one.name, one.modality) == (new.name, new.modality) for one in there):
        rows = [one.model_dump(mode="json") for one in (*there, new)]
        write_atomically(_path(layout), json.dumps(rows, indent=1).encode())


def _path(layout: Layout) -> Path:
    return layout.root / "spaces.json"
