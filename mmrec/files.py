"""Write files: atomically, flushed to disk, with checksums, and never over a device, a pipe or a link."""

import hashlib
import os
import shutil
from pathlib import Path

from indexers.atomic import sync_directory, temporary_name, write_atomically
from mmrec.errors import UsageError

__all__ = [
    "check_output",
    "file_sha256",
    "is_irregular",
    "replace_tree",
    "reserve",
    "sync_directory",
    "sync_file",
    "sync_tree",
    "write_atomically",
    "write_page",
]


def reserve(path: Path) -> None:
    """Allocate the disk blocks of a sparse file, so that a full disk is an OSError here.

    Writing to a memory-mapped hole on a full disk would kill the process.
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


def replace_tree(made: Path, path: Path) -> None:
    """Flush a written file or folder to disk, and put it in the place of `path` beside it, if anything is there."""
    sync_tree(made)
    # Not a temporary name, which is swept: if the process dies between the renames, this is the only copy.
    old = path.with_name(f"{temporary_name(path.name)}.old")
    if path.is_dir():  # a directory cannot be renamed over another that holds something
        path.rename(old)
    made.rename(path)
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_irregular(path: Path) -> bool:
    """Whether there is something other than a regular file or a directory; a link counts, whatever it leads to."""
    return path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir())


def check_output(path: Path) -> None:
    """Raise UsageError where something other than a regular file would be replaced."""
    if is_irregular(path):
        kind = "a link" if path.is_symlink() else "a device, a pipe or a socket"
        raise UsageError(f"{path} is {kind}, and is not replaced; name a regular file, or one that does not exist")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file")


def write_page(out: Path, page: str) -> None:
    """Write a page as a file, whole or not at all. Raises UsageError where it cannot be written."""
    check_output(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"the page {out} cannot be written: {error.strerror}; name another file") from error
