"""Read tar archives: all members in order, or one of them by its offset.

An archive that is cut off or damaged gives its members up to there, and then says so: Python's own reader takes a
broken header for the end.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from typing import Any, Final, cast

from mmrec.errors import MediaError, MmrecError
from mmrec.sources.places import Place
from mmrec.sources.storage import first_line

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_BLOCK: Final = tarfile.BLOCKSIZE
_BROKEN: Final = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError)


class DamagedTarError(MmrecError):
    """The rest of an archive cannot be read; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive, or a link or device; its bytes begin at `offset` in the uncompressed archive.

    It is read from the open archive, so before the next member is taken.
    """

    name: str
    offset: int
    size: int
    is_file: bool
    archive: BufferedIOBase

    def read(self, most: int) -> bytes:
        """Return its bytes, or the first `most` of them. Raises DamagedTarError if the archive ends before."""
        wanted = min(self.size, most)
        try:
            self.archive.seek(self.offset)
            data = self.archive.read(wanted)
        except _BROKEN as error:
            raise DamagedTarError(f"it is damaged inside {self.name} ({first_line(error)})") from error
        if len(data) < wanted:
            raise DamagedTarError(f"it is cut off inside {self.name}")
        return data


def is_seekable(archive: Place) -> bool:
    """Whether any member can be reached at no cost for those before it."""
    return not archive.is_remote and archive.suffix == ".tar"


def members(archive: Place) -> Iterator[Member]:
    """Give the members in order, without their folders. Raises DamagedTarError if they cannot be read on."""
    try:
        with _uncompressed(archive) as file:
            yield from _members(file)
    except _BROKEN as error:
        raise DamagedTarError(f"it is damaged or cut off ({first_line(error)})") from error


def _members(file: BufferedIOBase) -> Iterator[Member]:
    recorder = _LastBlockRecorder(file)
    with tarfile.open(fileobj=cast(Any, recorder), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            vars(tar)["members"].clear()  # TarFile keeps all members; this bounds memory
            if not info.isdir():
                yield Member(info.name, info.offset_data, info.size, info.isfile(), file)
    if not recorder.last_block:
        raise DamagedTarError("it is cut off: its end mark is missing")
    if any(recorder.last_block):
        raise DamagedTarError("it is damaged: what follows is no header of a member")


def read_member(archive: Place, name: str, offset: int, size: int) -> bytes:
    """Return the bytes of a member that lies at `offset`. Raises MediaError if something else lies there by now."""
    try:
        with _uncompressed(archive) as file:
            file.seek(offset - _BLOCK)
            header = tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "surrogateescape")
            data = file.read(size)
    except (*_BROKEN, tarfile.HeaderError) as error:
        raise MediaError(f"The member {name} of the archive cannot be read any more.") from error
    # Of a long name, the header just before the data holds a part alone.
    is_other = len(name) < 100 and name.isascii() and header.name != name
    if is_other or header.size != size or len(data) < size:
        raise MediaError("The archive has changed since; index it again.")
    return data


@contextmanager
def _uncompressed(archive: Place) -> Iterator[BufferedIOBase]:
    with archive.open() as file:
        if archive.suffix == ".tar":
            yield file
        else:
            with gzip.GzipFile(fileobj=file) as plain, BufferedReader(plain) as buffered:
                yield buffered


class _LastBlockRecorder:
    """Passes reading on, and keeps the last block read, to tell a regular end of an archive from damage."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self.last_block = b""

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if size == _BLOCK:
            self.last_block = data
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()
