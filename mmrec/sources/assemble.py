"""Build items from rows of a catalog; rows that give none are rejected with a reason."""

import json
import math
from collections.abc import Iterator
from typing import Final, TypeAlias

import pyarrow as pa

from mmrec.errors import MmrecError, UsageError
from mmrec.sources.columns import ColumnSpec, type_name
from mmrec.sources.locations import table_uri
from mmrec.sources.places import Place
from mmrec.sources.rows import Blob, Row, Unreadable
from mmrec.sources.scalars import to_value
from mmrec.types import Field, Item, Modality, Reject, Removal, Value

_LARGEST_EXACT = 2**53


class BadValueError(MmrecError):
    """A cell does not have the type or form that its column needs; the message is the reason."""


def assemble(row: Row, columns: ColumnSpec, schema: pa.Schema, folder: Place) -> Iterator[Item | Removal | Reject]:
    """Give an item, after one Reject for each value of it that had to be left out; or a Reject of the whole row.

    A row whose column `columns.deleted` is true gives a Removal alone.
    """
    try:
        item_id = id_of(row.values.get(columns.id))
    except BadValueError as error:
        yield Reject(row.number, None, columns.id, str(error), row.where)
        yield from (Reject(row.number, None, name, reason, row.where) for name, reason in row.unread)
        return
    try:
        if columns.deleted is not None and _is_true(row.values.get(columns.deleted)):
            yield Removal(row.number, item_id, row.where)
            return
    except BadValueError as error:
        yield Reject(row.number, item_id, columns.deleted or "", str(error), row.where)
    fields: list[Field] = []
    metadata: dict[str, Value] = {}
    for found in _parts(row, columns, schema, folder):
        match found:
            case Field():
                fields.append(found)
            case (str() as name, BadValueError() as bad):
                yield Reject(row.number, item_id, name, str(bad), row.where)
            case (str() as name, value):
                metadata |= {} if value is None else {name: value}
    if fields:
        yield Item(item_id, tuple(fields), metadata, row.number, row.where)
    else:
        yield Reject(row.number, item_id, "", "The item has no usable text, image or audio.", row.where)


_Part: TypeAlias = Field | tuple[str, "BadValueError | Value"]


def _parts(row: Row, columns: ColumnSpec, schema: pa.Schema, folder: Place) -> Iterator[_Part]:
    """Give the contents and metadata of a row, and for each that cannot be used the column and the reason."""
    yield from ((name, BadValueError(reason)) for name, reason in row.unread)
    if columns.text:
        try:
            yield from _text(row, columns.text)
        except BadValueError as error:
            yield "+".join(columns.text), error
    for modality, name in columns.media:
        yield from _media(row, name, modality, folder)
    for column in schema:
        try:
            yield column.name, _metadata(row.values.get(column.name), column.type)
        except BadValueError as error:
            yield column.name, error


def id_of(value: object) -> str:
    """Return an id as a string; a whole float counts as an integer, which pandas makes of integers beside nulls.

    Raises BadValueError if there is none: null, blank, not a whole number, or neither number nor text.
    """
    match _readable(value):
        case str(text) if text.strip():
            return text
        case bool():
            raise BadValueError("The id is true or false; it must be text or a whole number.")
        case int():
            return str(value)
        case float(number) if number.is_integer() and abs(number) < _LARGEST_EXACT:
            return str(int(number))
        case float():
            raise BadValueError(f"The id {value!r} is not a whole number; store ids as text.")
        case None | str():
            raise BadValueError("The id is missing.")
    raise BadValueError(f"The id is a {type(value).__name__}; it must be text or a whole number.")


def _readable(value: object) -> object:
    """A value, None for NaN, which pandas writes in place of a null. Raises BadValueError for an unreadable one."""
    if isinstance(value, Unreadable):
        raise BadValueError(value.reason)
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_true(value: object) -> bool:
    """Read a mark such as true, 1, "yes"; null and blank are false."""
    value = _readable(value)
    word = str(value if value is not None else "").strip().lower()
    if word not in _TRUE | _FALSE:
        raise BadValueError(f"The mark of removal {word[:80]!r} is neither true nor false; the item was kept.")
    return word in _TRUE


_TRUE: Final = frozenset({"true", "1", "1.0", "yes", "y", "t"})
_FALSE: Final = frozenset({"false", "0", "0.0", "no", "n", "f", "", "nan", "none", "null"})


def _text(row: Row, names: tuple[str, ...]) -> list[Field]:
    parts = [part for name in names if (part := _as_text(row.values.get(name))).strip()]
    return [Field(Modality.TEXT, "+".join(names), text="\n".join(parts))] if parts else []


def _as_text(value: object) -> str:
    match value := _readable(value):
        case None:
            return ""
        case str():
            return value
        case bytes() | dict():
            raise BadValueError(f"The value is {'bytes' if isinstance(value, bytes) else 'a struct'}, not text.")
        case list():
            return ", ".join(part for each in value if (part := _as_text(each)).strip())
    return json.dumps(value, default=str) if isinstance(value, bool) else str(value)


def _media(row: Row, name: str, modality: Modality, folder: Place) -> Iterator[_Part]:
    """Give a field for a path or bytes; for a list one each: columns ``image``, ``image[1]``, ``image[2]``."""
    value = row.values.get(name)
    if isinstance(value, str) and value.startswith("["):
        value = _listed(value)
    several = isinstance(value, list)
    for place, each in enumerate(value if isinstance(value, list) else [value]):
        column = f"{name}[{place}]" if place else name
        try:
            content = each.get("bytes") or each.get("path") if isinstance(each, dict) else each
            if isinstance(content, Blob):
                yield Field(modality, column, uri=content.uri, data=content.data)
            elif isinstance(content, bytes) and content and row.table is not None:
                uri = table_uri(row.table, row.table_row, name, place if several else None)
                yield Field(modality, column, uri=uri, data=content)
            elif path := _as_path(content, modality):
                yield Field(modality, column, uri=_resolved(path, folder))
        except BadValueError as error:
            yield column, error


def _listed(cell: str) -> object:
    """Read a list of paths that a file without lists, such as CSV, holds as JSON."""
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return found if isinstance(found, list) else cell


def _as_path(value: object, modality: Modality) -> str | None:
    match _readable(value):
        case None | "" | b"":
            return None
        case str(path) if "\0" not in path:
            return path if path.strip() else None
    raise BadValueError(f"The value is not a path, nor bytes of one {modality}.")


def _resolved(path: str, folder: Place) -> str:
    try:
        return folder.resolve(path)
    except UsageError as error:
        raise BadValueError(str(error)) from error


def _metadata(value: object, dtype: pa.DataType) -> Value:
    try:
        return to_value(_readable(value), dtype)
    except (ValueError, OverflowError) as error:
        raise BadValueError(f"The value {str(value)[:80]!r} cannot be kept as {type_name(dtype)}.") from error
