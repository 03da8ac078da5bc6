"""Atomic file replacement, the only place that does it: a file is there whole, as it was, or not at all.

The data goes to a temporary file in the same directory, is flushed to disk (fsync), and is renamed over the target;
then the directory is flushed, so that the rename survives a power cut. The temporary file has a name that nobody can
guess and is created with ``O_EXCL | O_NOFOLLOW``: a symbolic link that lies in wait is never written through. A target
that is itself a symbolic link is replaced, and what it points to stays as it is.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\..{1,40}\.[0-9a-f]{32}\.new", re.DOTALL)
_KEPT = 40
"""Characters of the target's name that the temporary name repeats: with all of them it could become too long."""


def temporary_name(name: str) -> str:
    """Return a name for what will replace `name` in the same directory; another one at each call."""
    return f".{name[:_KEPT]}.{uuid.uuid4().hex}.new"


def is_temporary(name: str) -> bool:
    """Whether `temporary_name` made a name; what has it was left by a process that was killed, or is being written."""
    return _TEMPORARY.fullmatch(name) is not None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by `data`, or create it. Raises OSError, and then leaves the file as it was."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block has ended well, and is removed where it raised.

    The directory is held open meanwhile: one that is moved away, or replaced by a link, takes the file along.
    """
    folder = os.open(path.parent, _DIRECTORY)
    temporary = temporary_name(path.name)
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o666, dir_fd=folder), "w+b") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give the path of a new, empty file that replaces `path` at the end, as `atomic_file` does.

    For libraries that write to a path and take no open file.
    """
    temporary = path.with_name(temporary_name(path.name))
    os.close(os.open(temporary, _CREATE, 0o666))
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
