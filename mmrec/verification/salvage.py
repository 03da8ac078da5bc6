"""What can still be read of a damaged table, in a new table under the same name."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from mmrec.errors import StoreError
from mmrec.store.containment import move, remove, sweep_temporaries
from mmrec.store.layout import Layout
from mmrec.store.tables import create, drop_rows, open_table, writing
from mmrec.verification.findings import reading

__all__ = ["drop_bad", "left_by_the_dead", "replace", "salvage", "set_aside"]

LAST_VERSION = 2**64 - 1
"""Lance names the manifest of a version by how far it is from this, so that the newest comes first in a listing."""

UNFINISHED = ".new"
WHOLE = ".whole"
"""Ending of a saved table that is complete and not yet in its place."""

MOST_ROWS_AT_ONCE = 65_536


def set_aside(layout: Layout, path: Path) -> None:
    """Move something damaged out of the way, where ``mmrec gc`` finds it."""
    layout.damaged.mkdir(exist_ok=True)
    move(layout.root, path, layout.damaged / f"{path.name}.{uuid.uuid4().hex}")


def salvage(layout: Layout, path: Path, damaged: set[Path], columns: set[str]) -> int:
    """Save the rows that can be read of a table in a table beside it; `replace` then puts that in its place.

    The newest version that opens and has the columns is read, a fragment at a time; one that cannot be read whole, or
    has a file among the damaged, is left out. Hold the commit lock. Returns how many rows were saved.
    """
    new = path.with_name(f".{path.name}{UNFINISHED}")
    remove(layout.root, new)
    saved = 0
    source = _newest_readable(path, damaged, columns)
    if source is not None:
        with writing(new):
            create(new, source.schema)
            for rows in _readable_fragments(source, path, damaged):
                lance.write_dataset(rows, str(new), mode="append")
                saved += len(rows)
    if saved:
        move(layout.root, new, _saved(path))
    else:
        remove(layout.root, new)
    return saved


def replace(layout: Layout, path: Path) -> None:
    """Set a table aside, and put what was saved of it in its place. Hold the commit lock."""
    if path.exists():
        set_aside(layout, path)
    if _saved(path).exists():
        move(layout.root, _saved(path), path)


def left_by_the_dead(layout: Layout) -> list[Path]:
    """Tables that were saved and not put in their places; what was not saved wholly is removed. Hold the lock."""
    folders = [layout.root, layout.root / "vectors"]
    for folder in folders:
        sweep_temporaries(layout.root, folder)
    saved = [path for folder in folders for path in folder.glob(f".*.lance{WHOLE}")]
    return [path.with_name(path.name.removeprefix(".").removesuffix(WHOLE)) for path in saved]


def _saved(path: Path) -> Path:
    return path.with_name(f".{path.name}{WHOLE}")


def drop_bad(table: lance.LanceDataset, columns: list[str], good: Callable[[pa.RecordBatch], np.ndarray]) -> int:
    """Delete the rows that are not good. Hold the commit lock. Returns how many there were."""
    bad = [np.empty(0, dtype=np.int64)]
    for batch in table.scanner(columns=columns, with_row_id=True, batch_size=8192).to_batches():
        kept: Bool[np.ndarray, n] = good(batch)
        bad.append(batch.column("_rowid").to_numpy().astype(np.int64)[~kept])
    rows = np.concatenate(bad)
    drop_rows(table, rows.tolist())
    return len(rows)


def _readable_fragments(source: lance.LanceDataset, path: Path, damaged: set[Path]) -> Iterator[pa.Table]:
    for fragment in source.get_fragments():
        files = {path / "data" / file.path for file in fragment.metadata.files}
        deletions = fragment.deletion_file()
        if files & damaged or (deletions and path / deletions in damaged):
            continue
        try:
            with reading(path):
                rows = pa.Table.from_batches(fragment.to_batches(), schema=source.schema)
        except StoreError:
            continue
        for start in range(0, len(rows), MOST_ROWS_AT_ONCE):
            yield rows.slice(start, MOST_ROWS_AT_ONCE)


def _newest_readable(path: Path, damaged: set[Path], columns: set[str]) -> lance.LanceDataset | None:
    for version in _versions(path, damaged):
        try:
            with reading(path):
                table = open_table(path, version)
                if table is not None and columns <= set(table.schema.names):
                    return table
        except StoreError:
            continue
    return None


def _versions(path: Path, damaged: set[Path]) -> list[int]:
    """Versions whose manifests are there and not damaged, newest first."""
    names = [found.stem for found in (path / "_versions").glob("*.manifest") if found not in damaged]
    return sorted((LAST_VERSION - int(name) for name in names if name.isdigit()), reverse=True)
