"""Symbolic and special links in a store are refused, so that it never reads, writes or deletes files outside itself.

A store consists of regular files and directories. A symbolic link in it, a second name of a file that is written in
place (hard link), a FIFO, socket or device is refused when the store is opened, before anything is read, written or
deleted. The store's directory may itself be reached by a link. Moving and deleting open each path from the store's
directory down, part by part, so that a link that is made later is not followed.
"""

import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexers.atomic import is_temporary
from mmrec.errors import LinkError, StoreError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WRITTEN_IN_PLACE = (".lock", ".db", ".db-wal", ".db-shm", ".db-journal")
_EARLIER_TEMPORARY = re.compile(r"\.(CURRENT|store\.json|spaces\.json|.+\.lance)\.new")
_MOST_NAMED = 3


def check_no_links(root: Path) -> None:
    """Raise LinkError where a link or special file lies anywhere in a store. 20,000 files take some 15 ms.

    Files that appear or vanish meanwhile are ignored, and so are folders that this user may not read.
    """
    found = sorted(_foreign(root))
    if found:
        raise _refused(found, f"the store {_shown(root)}")


def check_not_links(folder: Path, names: Iterable[str]) -> None:
    """Raise LinkError where one of these names in a folder is a link or special file."""
    found = [(str(folder / name), kind) for name in names if (kind := _kind(str(folder / name)))]
    if found:
        raise _refused(found, _shown(folder))


def is_plain_name(name: str) -> bool:
    """Whether a name that a file of the store gives stays in its folder."""
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name


def remove(root: Path, path: Path) -> None:
    """Delete a file, link or folder within a store, if it exists. No link is followed.

    Raises LinkError where a folder above it is a link, OSError where it cannot be deleted.
    """
    *above, name = path.relative_to(root).parts
    with suppress(FileNotFoundError), _opened(root, above) as folder:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def move(root: Path, source: Path, target: Path) -> None:
    """Rename within a store. Raises LinkError where a folder above either path is a link, OSError on failure."""
    *above_source, old = source.relative_to(root).parts
    *above_target, new = target.relative_to(root).parts
    with _opened(root, above_source) as here, _opened(root, above_target) as there:
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=there)


def sweep_temporaries(root: Path, folder: Path) -> None:
    """Delete the temporary files and tables of killed writers in a folder. Hold the lock of its writers."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_temporary(path.name) or _EARLIER_TEMPORARY.fullmatch(path.name):
            remove(root, path)


@contextmanager
def _opened(root: Path, parts: Iterable[str]) -> Iterator[int]:
    """Open a folder within a store, none of whose parts may be a link; the store itself may be reached by one."""
    descriptor = os.open(root, _DIRECTORY)
    at = root
    try:
        for part in parts:
            at /= part
            try:
                inner = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except OSError:
                check_not_links(at.parent, [part])
                raise
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _foreign(root: Path) -> Iterator[tuple[str, str]]:
    """All that does not belong in a store, and what it is."""
    folders = [str(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False) or entry.name.endswith(_WRITTEN_IN_PLACE):
                        kind = _kind(entry.path)
                        if kind:
                            yield entry.path, kind
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            raise StoreError(
                f"{_shown(root)} cannot be listed: {error.strerror}. Put that right, run it again"
            ) from error


def _kind(path: str) -> str | None:
    """Why a path does not belong in a store; None where it does, or is not there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    for is_kind, named in _KINDS:
        if is_kind(found.st_mode):
            return named
    shared = stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and path.endswith(_WRITTEN_IN_PLACE)
    return "a hard link: the same file has another name" if shared else None


def _refused(found: list[tuple[str, str]], holder: str) -> LinkError:
    named = "; ".join(f"{_shown(path)} is {kind}" for path, kind in found[:_MOST_NAMED])
    more = f"; and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    path, kind = found[0]
    if kind.startswith("a hard link"):
        copy = _shown(f"{path}.copy")
        way_out = f"give the store a file of its own: cp -p {_shown(path)} {copy} && mv {copy} {_shown(path)}"
    else:
        way_out = (
            f"put the files themselves in its place, or remove it if it is not yours: rm {_shown(path)}. To keep a "
            "store on another disk, link its whole directory"
        )
    return LinkError(
        f"{named}{more}. Only regular files and directories may lie in {holder}, lest files elsewhere be overwritten "
        f"or deleted through it; nothing was done. To go on, {way_out}"
    )


def _shown(path: str | Path) -> str:
    """A path for a message and for a shell; characters that a terminal would act on are spelled out."""
    text = str(path)
    return shlex.quote(text) if text.isprintable() else repr(text)
