"""Reads files of this machine: regular ones alone, and where a root is given, none outside it."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from mmrec.catalog.stamp import Reading, Stamp
from mmrec.errors import MediaError, UnreachableError

__all__ = ["check_is_table", "confined", "is_outside", "read_file", "stat_file"]

# A pipe would block and a device never end: without O_NONBLOCK the open itself would wait for a pipe's writer.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# A network disk that is away, and a machine that is out of something.
_MAY_PASS: Final = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(path: str, max_bytes: int, root: Path | None = None) -> Reading:
    """Return at most `max_bytes + 1` bytes of a file, and its stamp from before they were read.

    Raises MediaError where it is not a regular file that can be read, or lies outside `root`; UnreachableError where
    the machine, or the one that has its disk, cannot read it now.
    """
    try:
        with open(path, "rb", opener=lambda name, _: _opened(name, root)) as file:
            status = os.fstat(file.fileno())
            return Reading(file.read(max_bytes + 1), Stamp(status.st_size, status.st_mtime_ns))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        kind = UnreachableError if getattr(error, "errno", None) in _MAY_PASS else MediaError
        raise kind(f"The file cannot be read: {reason}.") from error


def stat_file(path: str, root: Path | None = None) -> Stamp | None:
    """Return the stamp of a regular file, or None where there is none inside `root`."""
    try:
        status = Path(confined(path, root)).stat()
    except (MediaError, OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def confined(path: str, root: Path | None) -> str:
    """Resolve a path's symbolic links. Raises MediaError where that leads outside `root`, whether it exists or not.

    Without a root a path is returned as it is.
    """
    if root is None:
        return path
    if is_outside(path, root):
        raise MediaError("The file lies outside --media-root, and is not read.")
    return _resolved(path)


def is_outside(path: str, root: Path) -> bool:
    """Whether a path leads outside a folder, once symbolic links are resolved. Raises MediaError where it is none."""
    return not Path(_resolved(path)).is_relative_to(_resolved(root))


def _resolved(path: str | Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError as error:
        raise MediaError("The file cannot be read: not a valid path.") from error


def check_is_table(path: str) -> None:
    """Raise MediaError where a path is neither a file nor a folder, in which alone a table can be."""
    try:
        kind = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise MediaError("The table cannot be read: there is none of that name.") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise MediaError("The table cannot be read: not a regular file.")


def _opened(path: str, root: Path | None) -> int:
    descriptor = os.open(path, _READ) if root is None else _open_inside(path, root)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def _open_inside(path: str, root: Path) -> int:
    """Open what a path leads to, folder by folder from the root on.

    No link is followed on that way: whoever swaps a folder or the file for a link, after the links were resolved,
    gains an error.
    """
    resolved_root = _resolved(root)
    names = Path(confined(path, root)).relative_to(resolved_root).parts
    folder = os.open(resolved_root, _DIRECTORY)
    try:
        for name in names[:-1]:
            below = os.open(name, _DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(names[-1] if names else ".", _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
