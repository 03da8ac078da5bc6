"""Files that are there whole or not at all."""

import hashlib
import os
from pathlib import Path

__all__ = ["file_sha256", "reserve", "sync_directory", "sync_file", "write_atomically"]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file beside `path`, flush it to disk, and rename it over `path`.

    Hold a lock where others may write the same path: the temporary file has one name, so that one left by a writer
    that died is overwritten by the next.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def reserve(path: Path) -> None:
    """Give a file that has holes its place on the disk, so that a full disk is an OSError here.

    Where memory is mapped to a hole, writing it to a full disk kills the process.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def sync_file(path: Path) -> None:
    """Flush a written file to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
