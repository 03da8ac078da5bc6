"""Addresses of files and folders, here or in an object store, and glob and brace patterns."""

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Final

from braceexpand import braceexpand

from mmrec.errors import UsageError
from mmrec.sources.storage import absolute, filesystem, is_remote, open_file


@dataclass(frozen=True, slots=True)
class Place:
    """The address of a file or folder, an absolute path or a URL such as ``s3://bucket/a.csv``; make it by `place`."""

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object store."""
        return is_remote(self.address)

    @property
    def name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(self.address).name or self.address

    @property
    def suffix(self) -> str:
        """Suffix of the name, in small letters."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def parent(self) -> "Place":
        """The folder it lies in."""
        return Place(posixpath.dirname(self.address) or "/")

    def join(self, inside: str) -> "Place":
        """Return a place below this one; `inside` has no ``..`` and is not absolute."""
        return Place(f"{self.address.rstrip('/')}/{inside}" if inside else self.address)

    def resolve(self, given: str) -> str:
        """Return the address of what a catalog in this folder calls `given`: an absolute path or URL, or one from here.

        Raises UsageError if a catalog in an object store names a path of this machine, or one outside its bucket.
        """
        if is_remote(given) and not given.lower().startswith("file:"):
            return given
        if not self.is_remote:
            return str(Path(self.address) / (absolute(given) if is_remote(given) else given))
        scheme, _, start = self.address.partition("://")
        if given.startswith("/") or is_remote(given):
            raise UsageError("A catalog in an object store cannot name a path of this machine; give a relative one.")
        found = posixpath.normpath(posixpath.join("/", start, given)).strip("/")
        if found.partition("/")[0] != start.partition("/")[0]:
            raise UsageError("The path leads out of the bucket that the catalog lies in.")
        return f"{scheme}://{found}"

    def relative_to(self, folder: "Place") -> str:
        """Return its path relative to a folder above it, or its name if it is not below."""
        start = f"{folder.address.rstrip('/')}/"
        return self.address.removeprefix(start) if self.address.startswith(start) else self.name

    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return bool(filesystem(self.address).isdir(self.address)) if self.is_remote else Path(self.address).is_dir()

    def exists(self) -> bool:
        """Whether anything is there."""
        return bool(filesystem(self.address).exists(self.address)) if self.is_remote else Path(self.address).exists()

    def open(self, *, ahead: bool = True) -> BufferedIOBase:
        """Open it to read bytes; see `open_file`."""
        return open_file(self.address, ahead=ahead)

    def walk(self) -> Iterator[tuple[str, list[str]]]:
        """Give each folder from here down, by its path inside this one, and its files' names; hidden ones left out.

        Both are in order of their names. Memory holds the names of one folder at a time.
        """
        if not self.is_remote:
            steps, root = os.walk(self.address), self.address
        else:
            system = filesystem(self.address)
            steps, root = system.walk(self.address), system._strip_protocol(self.address)  # noqa: SLF001 - its own way
        for folder, children, files in steps:
            children[:] = sorted(child for child in children if not child.startswith("."))
            yield folder[len(root) :].strip("/"), sorted(name for name in files if name and not name.startswith("."))

    def files(self, *suffixes: str) -> Iterator["Place"]:
        """Give all files from here down whose names end so, in the order of their paths, hidden ones left out."""
        for folder, names in self.walk():
            for name in names:
                if name.lower().endswith(suffixes):
                    yield self.join(f"{folder}/{name}" if folder else name)


def place(address: "str | Path | Place") -> Place:
    """Return the place of a path or URL. Raises UsageError if its scheme is not allowed."""
    return address if isinstance(address, Place) else Place(absolute(address))


_RANGE: Final = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?\d+)?\}", re.ASCII)
_MOST: Final = 1_000_000


def is_pattern(address: str) -> bool:
    """Whether an address has braces or a star in it."""
    return "*" in address or ("{" in address and "}" in address)


def expand_pattern(pattern: Place) -> list[Place]:
    """Return the files of a pattern, in its order. Raises UsageError if one that braces name does not exist."""
    found: list[Place] = []
    for address in _expanded(str(pattern)):
        if "*" in address:
            system = filesystem(address)
            scheme = address.partition("://")[0] if pattern.is_remote else ""
            names = sorted(str(name) for name in system.glob(address))
            found += [Place(f"{scheme}://{name.lstrip('/')}" if scheme else name) for name in names]
        else:
            found.append(Place(address))
    missing = [place for place in found if not place.exists()]
    if missing or not found:
        named = f", such as {missing[0]}" if missing else ""
        raise UsageError(f"{len(missing) or 'All'} of the files of {pattern} do not exist{named}.")
    return found


def _expanded(address: str) -> Iterator[str]:
    too_many = UsageError(f"{address} matches more than {_MOST:,} files; give the folder they lie in.")
    if any(abs(int(last) - int(first)) >= _MOST for first, last in _RANGE.findall(address)):
        raise too_many
    try:
        for number, found in enumerate(braceexpand(address, escape=False)):
            if number >= _MOST:
                raise too_many
            yield found
    except ValueError as error:
        raise UsageError(f"{address} has a brace that is not closed.") from error
