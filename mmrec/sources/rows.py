"""Rows of a catalog before they become items: numbered, with duplicates and file types recognised."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmrec.sources.places import Place
from mmrec.types import Modality, Reject


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a value that cannot be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Blob:
    """In place of the bytes of an image or audio clip that have an address of their own.

    `data` are the bytes, if the source had to read them anyway.
    """

    uri: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: plain Python values by column; a missing column is a null.

    Attributes:
        number: Number in the whole source, from 1.
        values: What it holds.
        where: File and line, row or member that it is, for messages: ``catalog.csv line 5``.
        table: Address of the file or dataset that holds the row, where its cells have addresses.
        table_row: Place within `table`, from 0.
        unread: Parts of the row that could not be read, by name, and why; the row lives on without them.

    """

    number: int
    values: Mapping[str, object]
    where: str
    table: str | None = None
    table_row: int = 0
    unread: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Reader(Protocol):
    """Rows of one kind of source, in source order, a bounded number of them in memory."""

    @property
    def folder(self) -> Place:
        """Folder that relative media paths start from."""
        ...

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Columns in order, with the type that holds all their values."""
        ...

    @property
    def count(self) -> int | None:
        """Number of rows, where it is known."""
        ...

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read these columns of every row; a row that cannot be read gives a Reject, and the rest goes on."""
        ...


_RECENT: Final = 65_536


class SeenIds:
    """A set of ids, or of other hashable values, that only grows; it lives in one process.

    Keeps Python's 64-bit hashes: a recent few in a Python set, the rest in sorted arrays of doubling size. Among 100
    million ids the chance of one false alarm is below 1 in 3,000; the hash is seeded anew in each process, so that
    nobody can aim for one.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[Int64[np.ndarray, " n"]] = []

    def __contains__(self, value: Hashable) -> bool:
        number = hash(value)
        return number in self._recent or any(_holds(run, number) for run in self._sorted)

    def add(self, value: Hashable) -> None:
        """Remember one more."""
        self._recent.add(hash(value))
        if len(self._recent) >= _RECENT:
            run = np.sort(np.fromiter(self._recent, np.int64, len(self._recent)))
            self._recent.clear()
            while self._sorted and len(self._sorted[-1]) <= len(run):
                run = np.sort(np.concatenate([self._sorted.pop(), run]))
            self._sorted.append(run)

    def add_new(self, value: Hashable) -> bool:
        """Remember one more. Returns whether it was not there."""
        if value in self:
            return False
        self.add(value)
        return True


def _holds(run: Int64[np.ndarray, " n"], number: int) -> bool:
    place = int(run.searchsorted(number))
    return place < len(run) and int(run[place]) == number


_SUFFIXES: Final = {
    Modality.TEXT: "txt",
    Modality.IMAGE: "png jpg jpeg webp gif avif bmp tif tiff ppm pgm jp2 svg",
    Modality.AUDIO: "wav flac ogg oga opus mp3 m4a aac wma aif aiff amr mka ac3 wv au",
}
_BY_SUFFIX: Final = {suffix: modality for modality, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_MPEG_MARKS: Final = (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9")
_AUDIO_MARKS: Final = (b"fLaC", b"OggS", b"FORM", b".snd", *_MPEG_MARKS)


def modality_of_name(name: str) -> Modality | None:
    """Tell a modality from a file name's suffix."""
    return _BY_SUFFIX.get(PurePath(name).suffix[1:].lower())


def modality_of_bytes(data: bytes) -> Modality:
    """Tell audio from an image by the first bytes."""
    wave = data[:4] in {b"RIFF", b"RF64"} and data[8:12] == b"WAVE"
    m4a = data[4:11] in {b"ftypM4A", b"ftypmp4", b"ftypiso"}
    return Modality.AUDIO if wave or m4a or data.startswith(_AUDIO_MARKS) else Modality.IMAGE
