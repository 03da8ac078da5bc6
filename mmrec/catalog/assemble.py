"""A row to an item, or to the reason why it is none."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mmrec.catalog.columns import ColumnSpec
from mmrec.catalog.locations import table_uri
from mmrec.catalog.rows import Row, Unreadable
from mmrec.catalog.scalars import to_scalar
from mmrec.errors import MmrecError
from mmrec.items import Field, Item, Reject, Scalar
from mmrec.modality import Modality

__all__ = ["BadValueError", "assemble", "id_of"]

_LARGEST_EXACT = 2**53
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)


class BadValueError(MmrecError):
    """A value cannot be what its column is said to be; the message is the reason."""


def assemble(row: Row, columns: ColumnSpec, schema: pa.Schema, folder: Path) -> Iterator[Item | Reject]:
    """Give an item, after one Reject for each value of it that had to be left out; or a Reject of the whole row."""
    try:
        item_id = id_of(row.values.get(columns.id))
    except BadValueError as error:
        yield Reject(row.number, None, columns.id, str(error))
        return
    fields: list[Field] = []
    for names, modality in _contents(columns):
        try:
            fields += _text(row, names) if modality is Modality.TEXT else _media(row, names[0], modality, folder)
        except BadValueError as error:
            yield Reject(row.number, item_id, "+".join(names), str(error))
    metadata: dict[str, Scalar] = {}
    for column in schema:
        try:
            scalar = _scalar(row.values.get(column.name), column.type)
        except BadValueError as error:
            yield Reject(row.number, item_id, column.name, str(error))
        else:
            metadata |= {} if scalar is None else {column.name: scalar}
    if fields:
        yield Item(item_id, tuple(fields), metadata, row.number)
    else:
        yield Reject(row.number, item_id, "", "The item has no usable text, image or audio.")


def id_of(value: object) -> str:
    """Return an id as a string; a whole float counts as an integer, which pandas makes of integers beside nulls.

    Raises BadValueError where there is none: null, blank, not a whole number, or neither number nor text.
    """
    match value:
        case Unreadable():
            raise BadValueError(value.reason)
        case str() if value.strip():
            return value
        case bool():
            raise BadValueError("The id is true or false; it must be text or a whole number.")
        case int():
            return str(value)
        case float() if value.is_integer() and abs(value) < _LARGEST_EXACT:
            return str(int(value))
        case float() if value == value:  # noqa: PLR0124 - false for NaN, which is a null
            raise BadValueError(f"The id {value!r} is not a whole number; store ids as text.")
        case None | str() | float():
            raise BadValueError("The id is missing.")
    raise BadValueError(f"The id is a {type(value).__name__}; it must be text or a whole number.")


def _contents(columns: ColumnSpec) -> Iterator[tuple[tuple[str, ...], Modality]]:
    if columns.text:
        yield columns.text, Modality.TEXT
    for modality, name in columns.media:
        yield (name,), modality


def _text(row: Row, names: tuple[str, ...]) -> list[Field]:
    parts = [part for name in names if (part := _as_text(row.values.get(name))).strip()]
    return [Field(Modality.TEXT, "+".join(names), text="\n".join(parts))] if parts else []


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case Unreadable():
            raise BadValueError(value.reason)
        case bytes() | dict():
            raise BadValueError(f"The value is {'bytes' if isinstance(value, bytes) else 'a struct'}, not text.")
        case list():
            return ", ".join(part for each in value if (part := _as_text(each)).strip())
        case float() if value != value:  # noqa: PLR0124 - true for NaN, which is a null
            return ""
    return json.dumps(value, default=str) if isinstance(value, bool) else str(value)


def _media(row: Row, name: str, modality: Modality, folder: Path) -> list[Field]:
    """Give a field for a path or bytes; for a list of paths one each: columns ``image``, ``image[1]``, ``image[2]``."""
    value = row.values.get(name)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return [Field(modality, name, uri=table_uri(row.table, row.table_row, name), data=value)] if value else []
    paths = [path for each in (value if isinstance(value, list) else [value]) if (path := _as_path(each, modality))]
    columns = [name, *(f"{name}[{place}]" for place in range(1, len(paths)))]
    uris = [path if _HAS_SCHEME.match(path) else str(folder / path) for path in paths]
    return [Field(modality, column, uri=uri) for column, uri in zip(columns, uris, strict=False)]


def _as_path(value: object, modality: Modality) -> str | None:
    match value:
        case None | "":
            return None
        case float() if value != value:  # noqa: PLR0124 - true for NaN, which is a null
            return None
        case Unreadable():
            raise BadValueError(value.reason)
        case str() if "\0" not in value:
            return value if value.strip() else None
    raise BadValueError(f"The value is not a path, nor bytes of one {modality} a cell.")


def _scalar(value: object, dtype: pa.DataType) -> Scalar:
    if isinstance(value, Unreadable):
        raise BadValueError(value.reason)
    try:
        return to_scalar(value, dtype)
    except (ValueError, OverflowError) as error:
        raise BadValueError(f"The value {str(value)[:80]!r} cannot be kept as {dtype}.") from error
