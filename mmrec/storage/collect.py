"""Garbage collection: remove old generations, unused vectors and leftovers; files set aside by a repair stay."""

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa

from mmrec.errors import StoreError, UsageError
from mmrec.storage.containment import check_no_links, move, remove, sweep_temporaries
from mmrec.storage.generations import Manifest, current_number, generation_numbers, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import SET_ASIDE, Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock
from mmrec.storage.scratch import dead_folders, running_since, sweep
from mmrec.storage.tables import SMALL_ROWS, convert_write_errors, drop_rows, open_table
from mmrec.storage.vectors import KeyIndex, key_column
from mmrec.types import Modality

KEEP_SUFFIX: Final = ".keep"
"""Suffix of data set aside that may hold more than was saved: only the user removes it."""


def set_aside(layout: Layout, path: Path, *, keep: bool = False) -> Path:
    """Move something into ``damaged/``; with `keep`, ``mmrec gc`` never removes it. Returns its new path."""
    layout.damaged.mkdir(exist_ok=True)
    aside = layout.damaged / f"{path.name}.{uuid.uuid4().hex}{KEEP_SUFFIX if keep else ''}"
    move(layout.root, path, aside)
    return aside


def removable_aside(layout: Layout) -> list[Path]:
    """Entries of ``damaged/`` from which everything was saved."""
    return [path for path in _aside(layout) if not path.name.endswith(KEEP_SUFFIX)]


def kept_aside(layout: Layout) -> list[Path]:
    """Entries of ``damaged/`` that may hold more than was saved."""
    return [path for path in _aside(layout) if path.name.endswith(KEEP_SUFFIX)]


def _aside(layout: Layout) -> list[Path]:
    paths = layout.damaged.iterdir() if layout.damaged.is_dir() else ()
    return sorted(path for path in paths if SET_ASIDE.fullmatch(path.name))


GRACE_PERIOD = timedelta(minutes=10)
"""Versions used this recently are kept for readers: a job opens its tables before it has a folder."""

NEVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of garbage collection.

    Attributes:
        keep: Number of generations: the current one and the newest before it; newer ones, after a rollback, stay too.
        unused_vectors: Whether vectors of contents without an item are dropped. By default they are kept: contents that
            come back are then not encoded again.
        grace: Versions of tables, and generations, that were in use this recently are kept for their readers.
        dry_run: Only report what would be removed.

    """

    keep: int = 2
    unused_vectors: bool = False
    grace: timedelta = GRACE_PERIOD
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UsageError(f"{self.keep} generations are to be kept; the current one always is: give at least 1")


@dataclass
class Collected:
    """Result of a garbage collection, or of its dry run.

    Attributes:
        generations: Numbers of the removed generations.
        folders: Folders of killed jobs, and folders set aside by a repair.
        versions: Old versions of tables.
        vectors: Vectors of contents that no item has.
        freed_bytes: Space on disk; in a dry run without that of `vectors`, which is not known before.

    """

    generations: list[int] = field(default_factory=list)
    folders: int = 0
    versions: int = 0
    vectors: int = 0
    freed_bytes: int = 0


def collect(layout: Layout, policy: Policy) -> Collected:
    """Remove what no kept generation needs. Writers wait meanwhile; readers and a running job are not disturbed.

    A reader that has a removed generation open keeps its files until it closes them (not on Windows). It is safe to
    interrupt: only unreferenced data with names that mmrec gives is removed. Raises StoreError where the current
    generation or a table cannot be read: repair the store first; LinkError where a link lies in the store.
    """
    layout.check()
    done = Collected()
    with file_lock(layout.lock, JOB_WAIT_SECONDS):
        layout.check_links()  # the wait may have been long
        kept, others = _kept_and_others(layout, policy)
        _remove_folders(layout, policy, done)
        _remove_generations(layout, others, policy, done)
        if not policy.dry_run:
            _delete_aside(layout)
        tables = [layout.items, layout.quarantine, *sorted((layout.root / "vectors").glob("*.lance"))]
        if policy.unused_vectors:
            _drop_unused(layout, tables[2:], policy, done)
        horizon = _horizon(layout, policy)
        for path in tables:
            _clean(path, _pinned(layout, path, kept), horizon, policy, done)
    return done


def _kept_and_others(layout: Layout, policy: Policy) -> tuple[list[Manifest], list[int]]:
    """The manifests of the kept generations, and the numbers of the others."""
    there = generation_numbers(layout)
    kept: list[Manifest] = []
    number = current_number(layout)
    if number is not None:
        kept.append(read_manifest(layout, number))
    recently = datetime.now(UTC) - policy.grace
    for other in sorted((one for one in there if number is not None and one < number), reverse=True):
        replaced_recently = bool(kept) and datetime.fromisoformat(kept[-1].created) > recently
        if len(kept) < policy.keep or replaced_recently:
            with suppress(StoreError):  # a damaged one is of no use
                kept.append(read_manifest(layout, other))
    names = {made.number for made in kept}
    # One that was rolled back from is newer than the current one: someone may go forward to it again.
    newer = [one for one in there if number is None or one > number]
    for other in newer:
        with suppress(StoreError):
            kept.append(read_manifest(layout, other))
    return kept, [one for one in there if one not in names and one not in newer]


def _remove_generations(layout: Layout, others: list[int], policy: Policy, done: Collected) -> None:
    """Move each generation aside in one step, so that a crash never leaves half of one."""
    for number in others:
        folder = layout.generations / str(number)
        done.generations.append(number)
        done.freed_bytes += _size(folder)
        if not policy.dry_run:
            set_aside(layout, folder)


def _remove_folders(layout: Layout, policy: Policy, done: Collected) -> None:
    """Remove the folders of killed jobs, and what a repair set aside without loss."""
    folders = [*dead_folders(layout), *removable_aside(layout)]
    done.folders = len(folders)
    done.freed_bytes += sum(_size(folder) for folder in folders)
    if not policy.dry_run:
        sweep(layout)


def _delete_aside(layout: Layout) -> None:
    """Delete what was set aside and holds nothing more, and the temporary files of writers that were killed."""
    with convert_write_errors(layout.root):
        for path in removable_aside(layout):
            remove(layout.root, path)
        for folder in (layout.root, layout.root / "vectors"):
            sweep_temporaries(layout.root, folder)
    with suppress(OSError):  # something else lies in it
        layout.damaged.rmdir()


def _horizon(layout: Layout, policy: Policy) -> datetime:
    """The earliest time at which a current reader may have started."""
    now = datetime.now(UTC)
    started = [since - GRACE_PERIOD for since in running_since(layout).values()]
    return min([now - policy.grace, *started])


def _pinned(layout: Layout, path: Path, kept: list[Manifest]) -> set[int]:
    """Versions of a table that the kept generations were built from."""
    if path == layout.items:
        return {made.items_version for made in kept}
    return {made.vector_versions[path.name] for made in kept if path.name in made.vector_versions}


def _clean(path: Path, pinned: set[int], horizon: datetime, policy: Policy, done: Collected) -> None:
    """Remove the versions of a table that nothing needs, with their files."""
    table = open_table(path)
    if table is None:
        return
    check_no_links(path)  # Lance deletes by path
    versions = sorted(table.versions(), key=lambda one: int(one["version"]))
    # A version may be in use until its successor was committed.
    old = [
        int(one["version"])
        for one, following in pairwise(versions)
        if following["timestamp"].astimezone(UTC) < horizon and int(one["version"]) not in pinned
    ]
    done.versions += len(old)
    options: dict[str, Any] = {"versions": old} if old else {"older_than": NEVER}
    # Every writer holds the commit lock, as this one does: files of no version were left by a writer that was killed.
    options |= {"delete_unverified": True, "error_if_tagged_old_versions": False}
    if policy.dry_run:
        done.freed_bytes += table.explain_cleanup_old_versions(**options).stats.bytes_removed
    else:
        done.freed_bytes += table.cleanup_old_versions(**options).bytes_removed


def _drop_unused(layout: Layout, paths: list[Path], policy: Policy, done: Collected) -> None:
    """Drop vectors of contents that no item has; a running job may rely on them, so none may run."""
    if running_since(layout):
        raise StoreError(
            f"a job that may need unused vectors is running on {layout.root}; wait for it, or leave them out"
        )
    items = ItemTable(layout.items)
    keys = [words for modality in Modality for _, words in items.content_keys(modality)]
    used = KeyIndex(np.concatenate([np.empty((0, 2), dtype=np.uint64), *keys]))
    for path in paths:
        table = open_table(path)
        if table is not None:
            rows = _unused(table, used)
            done.vectors += len(rows)
            if not policy.dry_run:
                drop_rows(table, rows)
                table.optimize.compact_files(target_rows_per_fragment=SMALL_ROWS)


def _unused(table: lance.LanceDataset, used: KeyIndex) -> list[int]:
    rows: list[int] = []
    for batch in table.scanner(columns=["hash"], with_row_id=True).to_batches():
        unused = used.find(key_column(batch.column("hash"))) < 0
        rows += batch.column("_rowid").filter(pa.array(unused)).to_pylist()
    return rows


def _size(path: Path) -> int:
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())
