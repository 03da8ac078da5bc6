"""The one place that opens Lance tables."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from indexers.atomic import sync_directory, temporary_name
from mmrec.errors import StoreError
from mmrec.store.files import sync_tree

__all__ = ["SMALL_ROWS", "append", "compact", "create", "drop_rows", "open_table", "quoted", "writing"]

MOST_SMALL_FRAGMENTS = 64
ROWS_PER_DELETE = 10_000
SMALL_ROWS = 65_536
"""A file of a table is small below this; larger ones are never rewritten to merge them, or each would be many times."""


def open_table(path: Path, version: int | None = None) -> lance.LanceDataset | None:
    """Open a table at its latest or a given version; None where it was never written.

    Compare it with None: a table without rows is false.

    Raises StoreError where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        return lance.dataset(str(path), version=version)
    except (OSError, ValueError) as error:
        msg = f"table {path} cannot be opened at version {version or 'latest'}: {error}; restore it from a backup"
        raise StoreError(msg) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise StoreError where what is done within cannot write: the disk is full, permission is missing."""
    try:
        yield
    except OSError as error:  # Lance's own have no error number
        reason = error.strerror or str(error).splitlines()[0][:300]
        msg = f"{path} cannot be written: {reason}. What was committed is kept; put that right and run it again"
        raise StoreError(msg) from error


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
