"""The one place that opens Lance tables."""

from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from mmrec.errors import StoreError

__all__ = ["append", "compact", "create", "open_table", "quoted"]

MOST_FRAGMENTS = 64


def open_table(path: Path, version: int | None = None) -> lance.LanceDataset | None:
    """Open a table at its latest or a given version; None where it was never written.

    Raises StoreError where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        return lance.dataset(str(path), version=version)
    except (OSError, ValueError) as error:
        msg = f"table {path} cannot be opened at version {version or 'latest'}: {error}; restore it from a backup"
        raise StoreError(msg) from error


def create(path: Path, schema: pa.Schema) -> lance.LanceDataset:
    """Make an empty table whose rows keep their row id for life."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return lance.write_dataset(
        schema.empty_table(), str(path), schema=schema, mode="create", enable_stable_row_ids=True
    )


def append(path: Path, rows: pa.Table) -> lance.LanceDataset:
    """Add rows in one commit; the table is made if need be."""
    if not path.exists():
        create(path, rows.schema)
    table = lance.write_dataset(rows, str(path), mode="append")
    compact(table)
    return table


def compact(table: lance.LanceDataset) -> None:
    """Merge the files of a table once many small commits have left many; rows keep their numbers and versions."""
    if len(table.get_fragments()) > MOST_FRAGMENTS:
        table.optimize.compact_files()


def quoted(values: list[Any]) -> str:
    """Spell values as a SQL list."""
    return ", ".join("'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value) for value in values)
