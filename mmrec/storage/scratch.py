"""Folders for what is not committed yet: gone with their owner, and swept up after one that died."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mmrec.errors import StoreError
from mmrec.storage.containment import refuse_linked, remove
from mmrec.storage.layout import Layout

_OWN = re.compile(r"([0-9]+-)?[0-9a-f]{32}")
"""Names that `scratch_folder` gives; whatever else lies beside them is left alone."""

_LOCK = ".lock"


@contextmanager
def scratch_folder(layout: Layout) -> Iterator[Path]:
    """Give an empty folder in the store, on its file system; what is left in it at the end is thrown away.

    An OS lock beside it is held meanwhile, so that others can tell the folders of the dead from those of the living.
    """
    folder = layout.staging / f"{int(time.time())}-{uuid.uuid4().hex}"
    lock = FileLock(_lock_of(folder))
    try:
        layout.staging.mkdir(exist_ok=True)
        sweep(layout)
        lock.acquire()  # before the folder is there, or a sweep could take it for one of the dead
    except OSError as error:
        raise StoreError(
            f"{layout.staging} cannot be written: {error.strerror}. Nothing was changed; put that right, run it again"
        ) from error
    try:
        folder.mkdir()
        yield folder
    finally:
        with suppress(OSError, StoreError):
            _clear(layout, folder)
        lock.release()


def living_since(layout: Layout) -> dict[str, datetime]:
    """Names of the folders whose owners are at work, and when they began."""
    living = {}
    for name in _names(layout):
        path = _lock_of(layout.staging / name)
        if not path.exists():
            continue
        try:
            with FileLock(path, timeout=0):
                continue
        except Timeout:
            began = name.split("-")[0]
            living[name] = datetime.fromtimestamp(int(began) if began.isdigit() else 0, UTC)
    return living


def sweep(layout: Layout) -> None:
    """Remove the folders whose owners died, and the locks of those that died before they had a folder."""
    for name in _names(layout):
        folder = layout.staging / name
        with suppress(Timeout), FileLock(_lock_of(folder), timeout=0), suppress(OSError):
            _clear(layout, folder)


def dead_folders(layout: Layout) -> list[Path]:
    """Folders that `sweep` would remove."""
    living = living_since(layout)
    folders = [layout.staging / name for name in _names(layout) if name not in living]
    return [folder for folder in folders if folder.is_dir()]


def _names(layout: Layout) -> list[str]:
    """Names of the folders that there are or whose locks there are. Raises LinkError where their folder is a link."""
    refuse_linked(layout.root, [layout.staging.name])  # a lock would be made where it leads
    paths = layout.staging.iterdir() if layout.staging.is_dir() else ()
    return sorted({name for path in paths if _OWN.fullmatch(name := path.name.removesuffix(_LOCK))})


def _clear(layout: Layout, folder: Path) -> None:
    with suppress(PermissionError):
        remove(layout.root, folder)
    remove(layout.root, _lock_of(folder))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK}")
