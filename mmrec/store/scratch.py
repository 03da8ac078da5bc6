"""Folders for what is not committed yet: gone with their owner, and swept up after one that died."""

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mmrec.errors import StoreError
from mmrec.store.layout import Layout

__all__ = ["living_since", "scratch_folder", "sweep"]


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
        shutil.rmtree(folder, ignore_errors=True)
        _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def living_since(layout: Layout) -> dict[str, datetime]:
    """Names of the folders whose owners are at work, and when they began."""
    living = {}
    for path in layout.staging.glob("*.lock") if layout.staging.is_dir() else ():
        name = path.name.removesuffix(".lock")
        try:
            with FileLock(path, timeout=0):
                continue
        except Timeout:
            began = name.split("-")[0]
            living[name] = datetime.fromtimestamp(int(began) if began.isdigit() else 0, UTC)
    return living


def sweep(layout: Layout) -> None:
    """Remove the folders whose owners died, and the locks of those that died before they had a folder."""
    if not layout.staging.is_dir():
        return
    for name in {path.name.removesuffix(".lock") for path in layout.staging.iterdir()}:
        folder = layout.staging / name
        lock = FileLock(_lock_of(folder), timeout=0)
        try:
            with lock:
                shutil.rmtree(folder, ignore_errors=True)
                _lock_of(folder).unlink(missing_ok=True)
        except Timeout:
            continue


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
