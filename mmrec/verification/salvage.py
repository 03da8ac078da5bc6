"""Copy the readable rows of a damaged table into a new table under the same name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, UInt64

from mmrec.errors import DamagedError
from mmrec.storage.collect import set_aside
from mmrec.storage.containment import move, remove, sweep_temporaries
from mmrec.storage.damage import convert_read_errors
from mmrec.storage.layout import Layout
from mmrec.storage.tables import convert_write_errors, create_table, drop_rows, open_table
from mmrec.storage.vectors import first_of_each

LAST_VERSION = 2**64 - 1
"""Lance names the manifest of a version by how far it is from this, so that the newest comes first in a listing."""

MANIFEST = ".manifest"
UNFINISHED = ".new"
WHOLE = ".whole"
"""Suffix of a saved table that is complete and not yet installed."""

MOST_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class SalvageResult:
    """Numbers of saved rows, and of those from an `older` version, as their files of the newest cannot be read.

    `lost` counts rows of the newest readable version that could not be saved; None where unknown.
    """

    rows: int
    older: int
    lost: int | None

    @property
    def whole(self) -> bool:
        """Whether it is the newest version, and all of it."""
        return not self.older and self.lost == 0


def salvage(layout: Layout, path: Path, damaged: set[Path], columns: set[str], key: str) -> SalvageResult:
    """Save the readable rows of a table in a table beside it; `install_salvaged` then replaces the table by that.

    The newest version that opens and has the columns is read, a fragment at a time. A fragment that is unreadable, or
    has a damaged file, is read from the newest older version in which it can be, without rows whose `key` is known
    already: they were edited since. Rows that were deleted since come back with it. Hold the commit lock.
    """
    new = path.with_name(f".{path.name}{UNFINISHED}")
    remove(layout.root, new)
    versions = _versions(path, damaged)
    source = _newest_readable(path, versions, columns)
    if source is None:
        return SalvageResult(0, 0, None)
    newest = source.version == max(
        _version_of(file) for file in {*_manifests(path), *damaged} if file.suffix == MANIFEST
    )
    rows = older = lost = 0
    with convert_write_errors(new):
        create_table(new, source.schema)
        unread, known = [], set[object]()
        for fragment in source.get_fragments():
            found = _rows_of(fragment, source.schema, path, damaged)
            if found is None:
                unread.append(fragment)
            else:
                rows += _write(new, found)
                known |= set(found[key].to_pylist())
        for fragment in unread:
            found = _older_rows(path, fragment.fragment_id, [one for one in versions if one < source.version], damaged)
            found = None if found is None or not columns <= set(found.schema.names) else _fitted(found, source.schema)
            if found is not None:
                found = found.filter(pa.array([one not in known for one in found[key].to_pylist()], pa.bool_()))
                older += _write(new, found)
            lost += max(0, fragment.metadata.num_rows - (len(found) if found is not None else 0))
    if rows + older:
        move(layout.root, new, _salvaged_path(path))
    else:
        remove(layout.root, new)
    return SalvageResult(rows + older, older, lost if newest else None)


def _write(new: Path, rows: pa.Table) -> int:
    for start in range(0, len(rows), MOST_ROWS_AT_ONCE):
        lance.write_dataset(rows.slice(start, MOST_ROWS_AT_ONCE), str(new), mode="append")
    return len(rows)


def install_salvaged(layout: Layout, path: Path, *, keep: bool = False) -> None:
    """Set a table aside, and replace it by what was saved of it. Hold the commit lock.

    With `keep`, ``mmrec gc`` leaves the table that was set aside: it may hold more than what was saved.
    """
    if path.exists():
        set_aside(layout, path, keep=keep)
    if _salvaged_path(path).exists():
        move(layout.root, _salvaged_path(path), path)


def left_by_crash(layout: Layout) -> list[Path]:
    """Saved tables that were not installed yet; incomplete ones are removed. Hold the lock."""
    folders = [layout.root, layout.root / "vectors"]
    for folder in folders:
        sweep_temporaries(layout.root, folder)
    found = [path for folder in folders for path in folder.glob(f".*.lance{WHOLE}")]
    return [path.with_name(path.name.removeprefix(".").removesuffix(WHOLE)) for path in found]


def _salvaged_path(path: Path) -> Path:
    return path.with_name(f".{path.name}{WHOLE}")


def drop_bad(
    table: lance.LanceDataset,
    columns: list[str],
    read: Callable[[pa.RecordBatch], tuple[UInt64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]],
) -> int:
    """Delete the rows that are not good, and all but the first good one of each key. Returns how many.

    `read` gives the keys of a batch, and which of its rows are good. Hold the commit lock.
    """
    rows, keys, good = [np.empty(0, dtype=np.int64)], [np.empty((0, 2), dtype=np.uint64)], [np.empty(0, dtype=bool)]
    for batch in table.scanner(columns=columns, with_row_id=True, batch_size=8192).to_batches():
        some, valid = read(batch)
        rows.append(batch.column("_rowid").to_numpy().astype(np.int64))
        keys.append(some)
        good.append(valid)
    kept = np.concatenate(good)
    kept[kept] = first_of_each(np.concatenate(keys)[kept])
    bad = np.concatenate(rows)[~kept]
    drop_rows(table, bad.tolist())
    return len(bad)


def _rows_of(fragment: lance.LanceFragment, schema: pa.Schema, path: Path, damaged: set[Path]) -> pa.Table | None:
    """The rows of a fragment; None where a file of it is missing or damaged."""
    files = {path / "data" / file.path for file in fragment.metadata.files}
    deletions = fragment.deletion_file()
    if files & damaged or (deletions and path / deletions in damaged):
        return None
    try:
        with convert_read_errors(path):
            return pa.Table.from_batches(fragment.to_batches(), schema=schema)
    except DamagedError:
        return None


def _older_rows(path: Path, number: int, versions: list[int], damaged: set[Path]) -> pa.Table | None:
    """The rows of a fragment in the newest of some versions in which it can be read."""
    for version in versions:
        try:
            with convert_read_errors(path):
                table = open_table(path, version)
                fragment = table.get_fragment(number) if table is not None else None
                rows = _rows_of(fragment, table.schema, path, damaged) if table is not None and fragment else None
                if rows is not None:
                    return rows
        except DamagedError:
            continue
    return None


def _fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table | None:
    """Rows with the columns of another version; None where they do not fit."""
    columns = [
        rows[field.name] if field.name in rows.schema.names else pa.nulls(len(rows), field.type) for field in schema
    ]
    try:
        return pa.Table.from_arrays(columns, names=schema.names).cast(schema)
    except (pa.ArrowException, ValueError):
        return None


def _newest_readable(path: Path, versions: list[int], columns: set[str]) -> lance.LanceDataset | None:
    for version in versions:
        try:
            table = open_table(path, version)
            if table is not None and columns <= set(table.schema.names):
                return table
        except DamagedError:
            continue
    return None


def _versions(path: Path, damaged: set[Path]) -> list[int]:
    """Versions whose manifests exist and are not damaged, newest first."""
    return sorted((_version_of(file) for file in _manifests(path) if file not in damaged), reverse=True)


def _manifests(path: Path) -> list[Path]:
    return [file for file in (path / "_versions").glob(f"*{MANIFEST}") if file.stem.isdigit()]


def _version_of(manifest: Path) -> int:
    return LAST_VERSION - int(manifest.stem)
