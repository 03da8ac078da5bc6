"""Files on disk: flushed, reserved, and their checksums. How they are replaced atomically is `indexers.atomic`."""

import hashlib
import os
from pathlib import Path

from indexers.atomic import sync_directory, write_atomically

__all__ = ["file_sha256", "reserve", "sync_directory", "sync_file", "sync_tree", "write_atomically"]


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


def sync_tree(path: Path) -> None:
    """Flush a written file, or a folder with all that is in it, to disk."""
    if path.is_file():
        sync_file(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            sync_file(Path(folder, name))
        sync_directory(Path(folder))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
