"""Rows of WebDataset archives: the members of one key that follow each other are one item.

`cats/0001.jpg`, `cats/0001.txt` and `cats/0001.json` make the item `cats/0001`: columns `jpg` and `txt`, and one for
each key of the JSON object. A member's column is what follows the first dot of its name, in small letters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa

from mmrec.decoding.limits import Limits
from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnTypes
from mmrec.sources.folder_rows import read_json, read_text
from mmrec.sources.locations import member_uri
from mmrec.sources.places import Place
from mmrec.sources.rows import Blob, Row, Unreadable, modality_of_name
from mmrec.sources.scalars import type_of_cell, type_of_value
from mmrec.sources.tar_members import DamagedTarError, Member, is_seekable, members
from mmrec.types import Modality, Reject

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
    """Rows of one or several archives, in order; `count` is known if they were read through for their columns.

    `clashes` are keys of JSON objects that are columns of members too; they become ``json_KEY``.
    """

    folder: Place
    archives: tuple[Place, ...]
    found: ColumnTypes
    count: int | None
    clashes: frozenset[str]

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Columns in order, with the type that holds all their values."""
        return self.found.types

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read all archives; only members of these columns are loaded."""
        for item in _items(self.folder, self.archives, frozenset(names)):
            yield item if isinstance(item, Reject) else item.row(self.clashes)


@dataclass(slots=True)
class _TarItem:
    """One item as its members have it."""

    number: int
    where: str
    keys: Mapping[str, str]
    members: dict[str, object] = field(default_factory=dict)
    objects: dict[str, object] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)

    def add(self, archive: Place, member: Member, names: frozenset[str] | None) -> None:
        """Add one member; `names` None means all columns, but without the bytes of images and audio."""
        column = _split(member.name)[1]
        if not column:
            self.unread.append((column, f"The member {member.name} has no suffix, so its type is unknown."))
        elif not member.is_file:
            self.unread.append((column, f"The member {member.name} is not a file."))
        elif column.rpartition(".")[2] in _JSON:
            found = read_json(member.read, member.name)
            if isinstance(found, Unreadable):
                self.unread.append((column, found.reason))
            else:
                self.objects |= found
        elif column in self.members:
            self.unread.append((column, f"The archive has {member.name} twice; the first was kept."))
        elif _is_column(column) and (names is None or column in names):
            self.members[column] = _value(archive, member, column, with_data=names is not None)

    def row(self, clashes: frozenset[str]) -> Row:
        values = {**self.keys, **self.members}
        for key, value in self.objects.items():
            column = f"json_{key}" if key in clashes else key
            if column in self.members or column in self.keys:
                self.unread.append((column, f"The key {key!r} of the JSON object is named like a member; left out."))
            else:
                values[column] = value
        return Row(self.number, values, self.where, unread=tuple(self.unread))


def open_tars(folder: Place, archives: Sequence[Place]) -> TarReader:
    """Open archives, with columns and types as their members have them.

    Uncompressed archives on this machine are looked through to the end for that, images and audio skipped; of others
    the first 1,000 items are. Raises UsageError if there is no item in them.
    """
    types, keys = ColumnTypes({KEY: pa.string(), PATH: pa.string()}), ColumnTypes()
    through = all(map(is_seekable, archives))
    count, first = 0, ""
    for item in islice(_items(folder, archives, None), None if through else _SAMPLE):
        count += 1
        if isinstance(item, Reject):
            first = first or f" {item.where}: {item.reason}"
        else:
            types.add_row(((name, value, _type_of(name, value)) for name, value in item.members.items()), item.where)
            keys.add_row(((name, value, type_of_value(value)) for name, value in item.objects.items()), item.where)
    if len(types.types) == 2 and not keys.types:
        raise UsageError(
            f"{archives[0].name} has no images, audio, texts or JSON objects in it; a WebDataset archive has "
            f"members such as 0001.jpg, 0001.txt and 0001.json.{first}"
        )
    clashes = frozenset(keys.types) & frozenset(types.types)
    types.join(keys, lambda key: f"json_{key}" if key in clashes else key)
    return TarReader(folder, tuple(archives), types, count if through else None, clashes)


def _type_of(name: str, value: object) -> pa.DataType:
    if isinstance(value, Blob):
        return pa.binary()
    if name.rpartition(".")[2] in _CELLS and isinstance(value, str):
        return type_of_cell(value)
    return pa.null() if isinstance(value, Unreadable) else type_of_value(value)


def _items(folder: Place, archives: Sequence[Place], names: frozenset[str] | None) -> Iterator[_TarItem | Reject]:
    """Read items; `names` None means all columns, but without the bytes of images and audio."""
    number = 0
    for archive in archives:
        shown = archive.relative_to(folder)
        stem = shown.removesuffix(".gz").rpartition(".")[0]
        key = ""
        try:
            for key, group in groupby(filter(_is_shown, members(archive)), key=lambda member: _split(member.name)[0]):
                item = _TarItem(number + 1, f"{shown} {key}", {KEY: key, PATH: f"{stem}/{key}"})
                for member in group:
                    item.add(archive, member, names)
                number += 1
                yield item
        except DamagedTarError as error:
            number += 1
            reason = f"The rest of the archive, from this item on, cannot be read: {error}."
            yield Reject(number, None, "", reason, f"{shown} {key}".strip(), hides_rows=True)


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


def _is_shown(member: Member) -> bool:
    name = PurePosixPath(member.name).name
    return not name.startswith(".") and not member.name.startswith("__")


def _split(name: str) -> tuple[str, str]:
    """Split a member's name into the key and what follows the first dot of its last part, in small letters."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, column = last.partition(".")
    return f"{folder}{slash}{stem}", column.lower()


def _is_column(column: str) -> bool:
    kind = column.rpartition(".")[2]
    return kind in {*_TEXTS, *_CELLS} or modality_of_name(f"x.{kind}") in {Modality.IMAGE, Modality.AUDIO}
