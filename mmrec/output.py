"""Where a person has results written: only ever a regular file is replaced, never a device, a pipe or a link."""

from pathlib import Path

from mmrec.errors import UsageError

__all__ = ["check_output", "is_irregular"]


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
