"""The one place that opens Lance tables."""

import errno
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from indexers.atomic import sync_directory, temporary_name
from mmrec.errors import MmrecError, StoreError
from mmrec.store.damage import by_lance, errno_of, judged, reading, reason_of
from mmrec.store.files import sync_tree

__all__ = ["SMALL_ROWS", "Table", "append", "compact", "create", "drop_rows", "open_table", "quoted", "writing"]

MOST_SMALL_FRAGMENTS = 64
ROWS_PER_DELETE = 10_000
SMALL_ROWS = 65_536
"""A file of a table is small below this; larger ones are never rewritten to merge them, or each would be many times."""


class Table(lance.LanceDataset):
    """A table at one version. Whatever damaged files make Lance raise while it is read is a StoreError here.

    Lance checks that files are there, and their structure: the headers of its manifests and pages. It keeps no
    checksums of what pages hold; those are in the ledger of each generation.
    """

    def scanner(self, *args: Any, **options: Any) -> "Scan":  # type: ignore[override]
        """As of Lance; the scan is guarded too."""
        with reading(Path(self.uri)):
            return Scan(super().scanner(*args, **options), Path(self.uri))

    def take(self, *args: Any, **options: Any) -> pa.Table:
        """As of Lance."""
        with reading(Path(self.uri)):
            return super().take(*args, **options)

    def count_rows(self, *args: Any, **options: Any) -> int:
        """As of Lance."""
        with reading(Path(self.uri)):
            return int(super().count_rows(*args, **options))

    def versions(self) -> list[Any]:
        """As of Lance."""
        with reading(Path(self.uri)):
            return list(super().versions())

    @property
    def latest_version(self) -> int:
        """As of Lance."""
        with reading(Path(self.uri)):
            return int(super().latest_version)

    def tracked_files(self, **options: Any) -> pa.RecordBatchReader:
        """As of Lance."""
        with reading(Path(self.uri)):
            return super().tracked_files(**options).read_all().to_reader()


class Scan:
    """A scan of a table; whatever damaged files make Lance raise is a StoreError."""

    def __init__(self, scanner: Any, path: Path) -> None:  # noqa: ANN401 - Lance's own has no public name
        self._scanner = scanner
        self._path = path

    def to_table(self) -> pa.Table:
        """Read all of it into memory."""
        with reading(self._path):
            return self._scanner.to_table()

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Read it a batch at a time."""
        batches = self._scanner.to_batches()
        while True:
            with reading(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def open_table(path: Path, version: int | None = None) -> Table | None:
    """Open a table at its latest or a given version; None where it was never written.

    Compare it with None: a table without rows is false.

    Raises StoreError where it cannot be read.
    """
    with reading(path):
        return Table(str(path), version=version) if path.exists() else None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise StoreError where what is done within cannot write: the disk is full, permission is missing.

    Where a table turns out to be damaged, it is the DamagedError that reading it raises.
    """
    try:
        yield
    except MmrecError:
        raise
    except OSError as error:
        if _met_damage(error):
            raise judged(path, error) from error
        msg = (
            f"{path} cannot be written: {error.strerror or reason_of(error)}. What was committed is kept; put that "
            "right and run it again"
        )
        raise StoreError(msg) from error
    except Exception as error:
        if by_lance(error):
            raise judged(path, error) from error
        raise
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise judged(path, error) from error
        raise


def _met_damage(error: OSError) -> bool:
    """Whether a write failed over what it had to read."""
    if not by_lance(error):
        return False
    number = errno_of(error)
    unreadable = re.search(r"Not found|fill whole buffer|corrupt", str(error), re.IGNORECASE) is not None
    return number in {errno.ENOENT, None} and unreadable


def create(path: Path, schema: pa.Schema) -> lance.LanceDataset:
    """Make an empty table whose rows keep their row id for life: whole or not at all, even where the process is killed.

    Hold a lock where others may make the same table.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(temporary_name(path.name))
    try:
        lance.write_dataset(schema.empty_table(), str(beside), schema=schema, mode="create", enable_stable_row_ids=True)
        sync_tree(beside)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(path.parent)
    return lance.dataset(str(path))


def append(path: Path, rows: pa.Table) -> lance.LanceDataset:
    """Add rows in one commit; the table is made if need be. Raises StoreError where it cannot be written."""
    with writing(path):
        if not path.exists():
            create(path, rows.schema)
        table = lance.write_dataset(rows, str(path), mode="append")
        compact(table)
    return table


def compact(table: lance.LanceDataset) -> None:
    """Merge the small files that many small commits have left; rows keep their numbers, versions and order."""
    small = sum(fragment.physical_rows < SMALL_ROWS for fragment in table.get_fragments())
    if small > MOST_SMALL_FRAGMENTS:
        table.optimize.compact_files(target_rows_per_fragment=SMALL_ROWS)


def drop_rows(table: lance.LanceDataset, rows: Sequence[int]) -> None:
    """Delete rows by their row ids. Hold the commit lock."""
    for start in range(0, len(rows), ROWS_PER_DELETE):
        with writing(Path(table.uri)):
            table.delete(f"_rowid IN ({quoted(list(rows[start : start + ROWS_PER_DELETE]))})")


def quoted(values: list[Any]) -> str:
    """Spell values as a SQL list."""
    return ", ".join("'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value) for value in values)
