"""Rows of a folder of media files, with texts and JSON sidecars: files of one name are one item."""

import codecs
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import PurePath
from typing import Final

import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnTypes
from mmrec.sources.places import Place
from mmrec.sources.rows import Row, Unreadable, modality_of_name
from mmrec.sources.scalars import type_of_value
from mmrec.sources.storage import first_line
from mmrec.sources.text_tables import parse_object
from mmrec.types import Modality, Reject

_LONGEST_TEXT: Final = 1024 * 1024
_LONGEST_JSON: Final = 16 * 1024 * 1024


def read_text(read: Callable[[int], bytes]) -> str | Unreadable:
    """Return a text, cut to a megabyte. `read` gives so many bytes at most."""
    data = read(_LONGEST_TEXT)
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) < _LONGEST_TEXT)
    except UnicodeDecodeError as error:
        return Unreadable(f"The text file is not UTF-8 (byte {error.start}).")


def read_json(read: Callable[[int], bytes], name: str) -> Mapping[str, object] | Unreadable:
    """Return a JSON object; `name` is the file's, for the reason why it is none. `read` gives so many bytes at most."""
    data = read(_LONGEST_JSON + 1)
    if len(data) > _LONGEST_JSON:
        return Unreadable(f"{name} cannot be used: it is longer than {_LONGEST_JSON:,} bytes.")
    try:
        return parse_object(data)
    except ValueError as error:
        reason = str(error)
        return Unreadable(f"{name} cannot be used: {reason[:1].lower()}{reason[1:]}")


def renamed(found: Mapping[str, object], is_taken: Callable[[str], bool]) -> Iterable[tuple[str, object]]:
    """Give the keys of a JSON object as columns: ``json_KEY`` where a column of that name comes from elsewhere."""
    for key, value in found.items():
        yield (f"json_{key}" if is_taken(key) else key), value


_TYPES: Final = dict.fromkeys(("id", "text", "image", "audio", "folder"), pa.string())
_SAMPLE: Final = 1000


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Rows of a folder: columns id, text, image, audio, the top-level sub-folder, and the keys of JSON files."""

    folder: Place
    found: ColumnTypes
    count: int

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Columns in order, with the type that holds all their values."""
        return self.found.types

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Walk the folder, reading text and JSON files alone."""
        with_json = not set(names) <= set(_TYPES)
        for number, (item_id, files) in enumerate(_groups(self.folder), 1):
            try:
                item_id.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(item_id).decode("utf-8", "backslashreplace")
                yield Reject(number, None, "id", f"The file name {shown} is not UTF-8; rename it.", shown)
                continue
            yield self._row(number, item_id, files, names, with_json=with_json)

    def _row(self, number: int, item_id: str, files: list[str], names: Sequence[str], *, with_json: bool) -> Row:
        top, slash, _ = item_id.partition("/")
        values: dict[str, object] = {"id": item_id, "folder": top if slash else None}
        unread: list[tuple[str, str]] = []
        files_of: dict[str, list[str]] = {}
        for name in files:
            modality = modality_of_name(name)
            if modality is None:
                found = _json_of(self.folder, name) if with_json else {}
                if isinstance(found, Unreadable):
                    unread.append(("json", found.reason))
                else:
                    values |= renamed(found, _TYPES.__contains__)
            elif modality is Modality.TEXT and modality in names:
                values["text"] = _text_of(self.folder, name)
            elif modality in names:
                files_of.setdefault(modality, []).append(str(self.folder.join(name)))
        return Row(number, values | files_of, item_id, unread=tuple(unread))


def open_folder(folder: Place) -> FolderReader:
    """Open a folder, hidden files left out, with the columns that its JSON files have.

    All of these are read for that; in an object store, those of the first 1,000 items that have one. Raises UsageError
    if no file in it is a text, image, audio or JSON object.
    """
    types = ColumnTypes(dict(_TYPES))
    count = 0
    left = _SAMPLE if folder.is_remote else None
    for _, files in _groups(folder):
        count += 1
        for name in islice((name for name in files if _is_json(name)), left):
            left = None if left is None else left - 1
            found = _json_of(folder, name)
            if not isinstance(found, Unreadable):
                typed = ((key, one, type_of_value(one)) for key, one in renamed(found, _TYPES.__contains__))
                types.add_row(typed, name)
    if not count:
        raise UsageError(f"{folder.name} has no images, audio, .txt, .json, .tar or .parquet files in it.")
    return FolderReader(folder, types, count)


def _groups(folder: Place) -> Iterator[tuple[str, list[str]]]:
    """Give each item's id and its files, relative to the folder, both in order."""
    for inside, names in folder.walk():
        start = f"{inside}/" if inside else ""
        kept = sorted((PurePath(name).stem, name) for name in names if modality_of_name(name) or _is_json(name))
        for stem, group in groupby(kept, key=lambda pair: pair[0]):
            yield f"{start}{stem}", [f"{start}{name}" for _, name in group]


def _is_json(name: str) -> bool:
    return name.lower().endswith(".json")


def _text_of(folder: Place, name: str) -> object:
    try:
        with folder.join(name).open() as file:
            return read_text(file.read)
    except OSError as error:
        return Unreadable(f"The text file cannot be read: {error.strerror or first_line(error)}.")


def _json_of(folder: Place, name: str) -> Mapping[str, object] | Unreadable:
    try:
        with folder.join(name).open() as file:
            return read_json(file.read, name)
    except OSError as error:
        return Unreadable(f"{name} cannot be read: {error.strerror or first_line(error)}.")
