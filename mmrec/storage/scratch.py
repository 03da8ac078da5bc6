"""Scratch folders of running jobs, removed when the job ends or after it was killed; rows staged in them."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mmrec.errors import StoreError
from mmrec.storage.containment import check_not_links, remove
from mmrec.storage.layout import Layout
from mmrec.storage.tables import convert_write_errors

_OWN = re.compile(r"([0-9]+-)?[0-9a-f]{32}")
"""Names that `scratch_folder` gives; other files beside them are left alone."""

_LOCK = ".lock"


@contextmanager
def scratch_folder(layout: Layout) -> Iterator[Path]:
    """Create an empty folder in the store, on its file system; it is deleted at the end.

    An OS lock beside it is held meanwhile, which shows that its job is running.
    """
    folder = layout.staging / f"{int(time.time())}-{uuid.uuid4().hex}"
    lock = FileLock(_lock_of(folder))
    try:
        layout.staging.mkdir(exist_ok=True)
        sweep(layout)
        lock.acquire()  # before the folder is there, or a sweep could remove it
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


def running_since(layout: Layout) -> dict[str, datetime]:
    """Names of the folders whose jobs are running, and their start times."""
    running = {}
    for name in _names(layout):
        path = _lock_of(layout.staging / name)
        if not path.exists():
            continue
        try:
            with FileLock(path, timeout=0):
                continue
        except Timeout:
            began = name.split("-")[0]
            running[name] = datetime.fromtimestamp(int(began) if began.isdigit() else 0, UTC)
    return running


def sweep(layout: Layout) -> None:
    """Remove the folders of killed jobs, and the locks of those that were killed before they had one."""
    for name in _names(layout):
        folder = layout.staging / name
        with suppress(Timeout), FileLock(_lock_of(folder), timeout=0), suppress(OSError):
            _clear(layout, folder)


def dead_folders(layout: Layout) -> list[Path]:
    """Folders that `sweep` would remove."""
    running = running_since(layout)
    folders = [layout.staging / name for name in _names(layout) if name not in running]
    return [folder for folder in folders if folder.is_dir()]


def _names(layout: Layout) -> list[str]:
    """Names of folders or of their locks. Raises LinkError where the staging folder is a link."""
    check_not_links(layout.root, [layout.staging.name])  # a lock would be made where it leads
    paths = layout.staging.iterdir() if layout.staging.is_dir() else ()
    return sorted({name for path in paths if _OWN.fullmatch(name := path.name.removesuffix(_LOCK))})


def _clear(layout: Layout, folder: Path) -> None:
    with suppress(PermissionError):
        remove(layout.root, folder)
    remove(layout.root, _lock_of(folder))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK}")


ROWS_PER_FLUSH = 4096


class StagedRows:
    """`count` rows to be committed, kept in one Parquet file so that memory stays bounded."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.count = 0
        self._writer = pq.ParquetWriter(path, schema)
        self._pending: list[Any] = []

    def add_row(self, row: Any) -> None:  # noqa: ANN401 -- whatever `as_table` takes
        """Stage one row. Raises StoreError where it cannot be written."""
        self._pending.append(row)
        self.count += 1
        if len(self._pending) >= ROWS_PER_FLUSH:
            self._flush()

    def close(self) -> None:
        """Finish the file, so that it can be read; a second call does nothing."""
        if self._writer.is_open:
            self._flush()
            with convert_write_errors(self.path):
                self._writer.close()

    def read(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The staged rows in batches. Close first."""
        return pq.ParquetFile(self.path).iter_batches(ROWS_PER_FLUSH, columns=columns)

    def as_table(self, rows: list[Any]) -> pa.Table:
        """Rows as a table with the columns of the file."""
        return pa.Table.from_pylist(rows, schema=self.schema)

    def _flush(self) -> None:
        rows, self._pending = self._pending, []
        if rows:
            with convert_write_errors(self.path):
                self._writer.write_table(self.as_table(rows))
