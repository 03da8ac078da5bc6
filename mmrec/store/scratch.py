"""Folders for what is not committed yet: gone with their owner, and swept up after one that died."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mmrec.errors import StoreError
from mmrec.store.layout import Layout

__all__ = ["scratch_folder"]


@contextmanager
def scratch_folder(layout: Layout) -> Iterator[Path]:
    """Give an empty folder in the store, on its file system; what is left in it at the end is thrown away.

    An OS lock beside it is held meanwhile, so that others can tell the folders of the dead from those of the living.
    """
    folder = layout.staging / uuid.uuid4().hex
    lock = FileLock(_lock_of(folder))
    try:
        layout.staging.mkdir(exist_ok=True)
        _sweep(layout)
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


def _sweep(layout: Layout) -> None:
    """Remove the folders whose owners died, and the locks of those that died before they had a folder."""
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
