"""Rows of a folder of media: files of one name and different suffixes are one item.

`animals/owl.png`, `animals/owl.txt` and `animals/owl.ogg` make the item `animals/owl` with a picture, a text and a
sound. Two pictures of one name (`owl.png`, `owl.svg`) are two fields of that item.
"""

import codecs
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import pyarrow as pa

from mmrec.catalog.rows import Row, Unreadable
from mmrec.catalog.suffixes import modality_of_name
from mmrec.errors import UsageError
from mmrec.items import Reject
from mmrec.modality import Modality

__all__ = ["FolderReader", "open_folder"]

_TYPES: Final = dict.fromkeys(("id", "text", "image", "audio", "folder"), pa.string())
_LONGEST_TEXT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Rows of a folder: columns id, text, image, audio, and the top-level sub-folder."""

    folder: Path
    count: int

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Its fixed columns."""
        return _TYPES

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Walk the folder, reading text files alone."""
        for number, (item_id, files) in enumerate(_groups(self.folder)):
            try:
                item_id.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(item_id).decode("utf-8", "backslashreplace")
                yield Reject(number, None, "id", f"The file name {shown} is not UTF-8; rename it.")
                continue
            yield Row(number, self._values(item_id, files, names), self.folder, number)

    def _values(self, item_id: str, files: list[str], names: Sequence[str]) -> dict[str, object]:
        top, slash, _ = item_id.partition("/")
        values: dict[str, object] = {"id": item_id, "folder": top if slash else None}
        files_of: dict[str, list[str]] = {}
        for name in files:
            modality = modality_of_name(name)
            if modality is None or modality not in names:
                continue
            path = self.folder / name
            if modality is Modality.TEXT:
                values["text"] = _text_of(path)
            else:
                files_of.setdefault(modality, []).append(str(path))
        return values | files_of


def open_folder(path: Path) -> FolderReader:
    """Open a folder, hidden files left out. Raises UsageError where no file in it is a text, picture or sound."""
    count = sum(1 for _ in _groups(path))
    if not count:
        raise UsageError(f"{path.name} has no pictures, sounds, .txt or .parquet files in it.")
    return FolderReader(path, count)


def _groups(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each item's id and its files, relative to the folder, both in order."""
    for directory, children, files in os.walk(folder):
        children[:] = sorted(child for child in children if not child.startswith("."))
        inside = Path(directory).relative_to(folder)
        media = sorted((Path(name).stem, name) for name in files if not name.startswith(".") and modality_of_name(name))
        for stem, group in groupby(media, key=lambda pair: pair[0]):
            yield (inside / stem).as_posix(), [(inside / name).as_posix() for _, name in group]


def _text_of(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_TEXT)
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) < _LONGEST_TEXT)
    except UnicodeDecodeError as error:
        return Unreadable(f"The text file is not UTF-8 (byte {error.start}).")
    except OSError as error:
        return Unreadable(f"The text file cannot be read: {error.strerror}.")
