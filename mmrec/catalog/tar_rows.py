"""Rows of WebDataset archives: the members of one key that follow each other are one item.

`cats/0001.jpg`, `cats/0001.txt` and `cats/0001.json` make the item `cats/0001`: columns `jpg` and `txt`, and one for
each key of the JSON object. A member's column is what follows the first dot of its name, in small letters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa

from mmrec.catalog.limits import Limits
from mmrec.catalog.locations import member_uri
from mmrec.catalog.places import Place
from mmrec.catalog.rows import Blob, Row, Unreadable
from mmrec.catalog.scalars import type_of_cell, type_of_value, widen
from mmrec.catalog.sidecars import read_json, read_text, renamed
from mmrec.catalog.suffixes import modality_of_name
from mmrec.catalog.tar_members import DamagedTarError, Member, is_seekable, members
from mmrec.errors import UsageError
from mmrec.items import Reject
from mmrec.modality import Modality

__all__ = ["KEY", "PATH", "TarReader", "open_tars"]

KEY: Final = "__key__"
"""The column of keys, which are the ids unless another column is named."""

PATH: Final = "__path__"
"""The column of keys with the archive's name before them, for archives that repeat keys."""

_SAMPLE: Final = 1000
_TEXTS: Final = ("txt", "text", "transcript", "caption")
_CELLS: Final = ("cls", "cls2", "class", "count", "index", "inx", "id")
_JSON: Final = ("json", "jsn")
_DATA_IN_HAND: Final = Limits().max_bytes


@dataclass(frozen=True, slots=True)
class TarReader:
    """Rows of one or several archives, in order."""

    folder: Place
    archives: tuple[Place, ...]
    types: Mapping[str, pa.DataType]
    count: int | None

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read the archives through, and of their members those of these columns alone."""
        return _rows(self.folder, self.archives, frozenset(names))


def open_tars(folder: Place, archives: Sequence[Place]) -> TarReader:
    """Open archives, with columns and types as their members have them.

    Uncompressed archives on this machine are looked through to the end for that, pictures and sounds skipped; of others
    the first 1,000 items are. Raises UsageError where there is no item in them.
    """
    types: dict[str, pa.DataType] = {KEY: pa.string(), PATH: pa.string()}
    through = all(map(is_seekable, archives))
    count, first = 0, ""
    for row in islice(_rows(folder, archives, None), None if through else _SAMPLE):
        count += 1
        if isinstance(row, Row):
            widen(types, ((name, _type_of(name, value)) for name, value in row.values.items()))
        else:
            first = first or f" {row.where}: {row.reason}"
    if len(types) == 2:
        raise UsageError(
            f"{archives[0].name} has no pictures, sounds, texts or JSON objects in it; a WebDataset archive has "
            f"members such as 0001.jpg, 0001.txt and 0001.json.{first}"
        )
    return TarReader(folder, tuple(archives), types, count if through else None)


def _type_of(name: str, value: object) -> pa.DataType:
    if isinstance(value, Blob):
        return pa.binary()
    if name.rpartition(".")[2] in _CELLS and isinstance(value, str):
        return type_of_cell(value)
    return pa.null() if isinstance(value, Unreadable) else type_of_value(value)


def _rows(folder: Place, archives: Sequence[Place], names: frozenset[str] | None) -> Iterator[Row | Reject]:
    """Read rows; `names` None means all columns, but without the bytes of pictures and sounds."""
    number = 0
    for archive in archives:
        shown = archive.inside(folder)
        key = ""
        try:
            for key, group in groupby(filter(_is_shown, members(archive)), key=lambda member: _split(member.name)[0]):
                row = _row(archive, key, group, names)
                number += 1
                stem = shown.removesuffix(".gz").rpartition(".")[0]
                values = {KEY: key, PATH: f"{stem}/{key}", **row.values}
                yield Row(number, values, f"{shown} {key}", unread=row.unread)
        except DamagedTarError as error:
            number += 1
            reason = f"The rest of the archive, from this item on, cannot be read: {error}."
            yield Reject(number, None, "", reason, f"{shown} {key}".strip(), hides_rows=True)


@dataclass(frozen=True, slots=True)
class _Read:
    values: dict[str, object]
    unread: tuple[tuple[str, str], ...]


def _row(archive: Place, key: str, group: Iterator[Member], names: frozenset[str] | None) -> _Read:
    values: dict[str, object] = {}
    unread: list[tuple[str, str]] = []
    seen: set[str] = set()
    for member in group:
        column = _split(member.name)[1]
        if not column or not member.is_file or column in seen:
            unread.append((column, _why_not(member, column)))
        elif column.rpartition(".")[2] in _JSON:
            found = read_json(member.read, member.name)
            if isinstance(found, Unreadable):
                unread.append((column, found.reason))
            else:
                values |= renamed(found, _is_member_column)
        elif _is_member_column(column) and (names is None or column in names):
            values[column] = _value(archive, member, column, with_data=names is not None)
        seen.add(column)
    del key
    return _Read(values, tuple(unread))


def _value(archive: Place, member: Member, column: str, *, with_data: bool) -> object:
    kind = column.rpartition(".")[2]
    if kind in _TEXTS:
        return read_text(member.read)
    if kind in _CELLS:
        text = read_text(member.read)
        return text.strip() if isinstance(text, str) else text
    in_hand = with_data and not is_seekable(archive) and member.size <= _DATA_IN_HAND
    data = member.read(member.size) if in_hand else None
    return Blob(member_uri(str(archive), member.name, member.offset, member.size), data)


def _why_not(member: Member, column: str) -> str:
    if not column:
        return f"The member {member.name} has no suffix, so what it is cannot be told."
    if not member.is_file:
        return f"The member {member.name} is not a file."
    return f"The archive has {member.name} twice; the first was kept."


def _is_shown(member: Member) -> bool:
    name = PurePosixPath(member.name).name
    return not name.startswith(".") and not member.name.startswith("__")


def _split(name: str) -> tuple[str, str]:
    """Split a member's name into the key and what follows the first dot of its last part, in small letters."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, column = last.partition(".")
    return f"{folder}{slash}{stem}", column.lower()


def _is_member_column(column: str) -> bool:
    kind = column.rpartition(".")[2]
    return column in {KEY, PATH} or kind in {*_TEXTS, *_CELLS} or modality_of_name(f"x.{kind}") in _MEDIA


_MEDIA: Final = (Modality.IMAGE, Modality.AUDIO)
