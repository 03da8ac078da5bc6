"""Open and write Lance tables, and keep checksums of their files."""

import errno
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from indexers.atomic import sync_directory, temporary_name
from mmrec.errors import DamagedError, MmrecError, StoreError
from mmrec.files import file_sha256, sync_tree
from mmrec.storage.damage import (
    convert_read_errors,
    damaged_error,
    errno_of,
    is_from_lance,
    reason_of,
    sha256_of,
    store_error_for,
)
from mmrec.storage.generations import generation_numbers, read_manifest
from mmrec.storage.layout import Layout

MOST_SMALL_FRAGMENTS = 64
VALUES_PER_QUERY = 1000
ROWS_PER_DELETE = 10_000
SMALL_ROWS = 65_536
"""Files with fewer rows are merged; larger ones are not, to avoid repeated rewrites."""


def _guarded(name: str) -> Callable[..., Any]:
    """A method of Lance that raises StoreError for damaged files."""
    method = getattr(lance.LanceDataset, name)

    def guarded(self: lance.LanceDataset, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as Lance's method
        with convert_read_errors(Path(self.uri)):
            return method(self, *args, **options)

    return guarded


class Table(lance.LanceDataset):
    """A table at one version. Errors of Lance about damaged files become StoreError.

    Lance checks that files exist, and their structure: the headers of its manifests and pages. It keeps no checksums of
    the data in pages; those are in the ledger of each generation.
    """

    def scanner(self, *args: Any, **options: Any) -> "Scan":  # type: ignore[override]
        """Same as Lance's, but read errors become StoreError."""
        with convert_read_errors(Path(self.uri)):
            return Scan(super().scanner(*args, **options), Path(self.uri))

    def versions(self) -> list[Any]:
        """Same as Lance's."""
        with convert_read_errors(Path(self.uri)):
            return list(super().versions())

    @property
    def latest_version(self) -> int:
        """Same as Lance's."""
        with convert_read_errors(Path(self.uri)):
            return int(super().latest_version)

    take = _guarded("take")
    count_rows = _guarded("count_rows")


class Scan:
    """A scan of a table; read errors become StoreError."""

    def __init__(self, scanner: Any, path: Path) -> None:  # noqa: ANN401 - Lance's own has no public name
        self._scanner = scanner
        self._path = path

    def to_table(self) -> pa.Table:
        """Read everything into memory."""
        with convert_read_errors(self._path):
            return self._scanner.to_table()

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Read it a batch at a time."""
        batches = self._scanner.to_batches()
        while True:
            with convert_read_errors(self._path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def open_table(path: Path, version: int | None = None) -> Table | None:
    """Open a table at its latest or a given version; None where it was never written. Raises StoreError.

    A table without rows is false: compare with None.
    """
    with convert_read_errors(path):
        return Table(str(path), version=version) if path.exists() else None


@contextmanager
def convert_write_errors(path: Path) -> Iterator[None]:
    """Raise StoreError where the block cannot write: the disk is full, permission is missing.

    Where a table turns out to be damaged, it is the DamagedError that reading it raises.
    """
    try:
        yield
    except MmrecError:
        raise
    except OSError as error:
        if _failed_to_read(error):
            raise store_error_for(path, error) from error
        msg = (
            f"{path} cannot be written: {error.strerror or reason_of(error)}. What was committed is kept; put that "
            "right and run it again"
        )
        raise StoreError(msg) from error
    except Exception as error:
        if is_from_lance(error):
            raise store_error_for(path, error) from error
        raise
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise store_error_for(path, error) from error
        raise


def _failed_to_read(error: OSError) -> bool:
    """Whether a write failed because data that it had to read is damaged."""
    if not is_from_lance(error):
        return False
    number = errno_of(error)
    unreadable = re.search(r"Not found|fill whole buffer|corrupt", str(error), re.IGNORECASE) is not None
    return number in {errno.ENOENT, None} and unreadable


def create_table(path: Path, schema: pa.Schema) -> lance.LanceDataset:
    """Create an empty table with stable row ids, atomically.

    Hold a lock where others may create the same table.
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
    """Add rows in one commit to a table, created if missing. Raises StoreError where it cannot be written."""
    with convert_write_errors(path):
        if not path.exists():
            create_table(path, rows.schema)
        table = lance.write_dataset(rows, str(path), mode="append")
        compact(table)
    return table


def compact(table: lance.LanceDataset) -> None:
    """Merge the small files of many small commits; rows keep their numbers, versions and order."""
    small = sum(fragment.physical_rows < SMALL_ROWS for fragment in table.get_fragments())
    if small > MOST_SMALL_FRAGMENTS:
        table.optimize.compact_files(target_rows_per_fragment=SMALL_ROWS)


def drop_rows(table: lance.LanceDataset, rows: Sequence[int]) -> None:
    """Delete rows by their row ids. Hold the commit lock."""
    for wanted in value_filters("_rowid", rows, ROWS_PER_DELETE):
        with convert_write_errors(Path(table.uri)):
            table.delete(wanted)


def value_filters(column: str, values: Sequence[Any], most: int = VALUES_PER_QUERY) -> Iterator[str]:
    """SQL conditions that a column has one of some values, at most `most` values in each."""
    for start in range(0, len(values), most):
        yield f"{column} IN ({quoted(list(values[start : start + most]))})"


def quoted(values: list[Any]) -> str:
    """Format values as a SQL list."""
    return ", ".join("'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value) for value in values)


LEDGER = "tables.json"
MANIFEST = ".manifest"
HOLDS_DATA = {"manifest", "data file", "deletion file"}


def table_files(path: Path) -> list[Path]:
    """The files of a table's latest version. Raises StoreError where it cannot be opened."""
    table = open_table(path)
    if table is None:
        return []
    with convert_read_errors(path):
        listed = table.tracked_files(min_version=table.version).read_all().to_pylist()
    return sorted(path / one["path"] for one in listed if one["type"] in HOLDS_DATA)


def ledger(layout: Layout, tables: Iterable[Path]) -> bytes:
    """Serialise the checksums of the files of tables; those known to an earlier generation are not read again."""
    known = known_sums(layout)
    names = {str(file.relative_to(layout.root)): file for path in tables for file in table_files(path)}
    reread = {name for name, file in names.items() if file.suffix == MANIFEST or name not in known}
    sums = {name: file_sha256(file) if name in reread else known[name] for name, file in sorted(names.items())}
    return json.dumps(sums, indent=0).encode()


def altered_files(layout: Layout, path: Path, *, again: bool = False) -> list[Path]:
    """The files of a table's latest version that differ from their known checksums.

    With `again`, files are read although this process has checked them and they were not touched since. Raises
    StoreError where the table cannot be opened.
    """
    with convert_read_errors(path):
        return _altered(layout, path, again=again)


def _altered(layout: Layout, path: Path, *, again: bool) -> list[Path]:
    known = known_sums(layout)
    latest = min((path / "_versions").glob(f"*{MANIFEST}"), default=None)
    # Before Lance opens it, which may end in a panic that it prints.
    if latest is not None and _holds_known(layout, path, known):
        digest = known.get(str(latest.relative_to(layout.root)))
        if digest is not None and _differs(latest, digest, again=again):
            return [latest]
    files = table_files(path)
    names = {file: str(file.relative_to(layout.root)) for file in files}
    # A manifest is named by its version, which means nothing once a table was lost and made anew.
    same_table = any(name in known for file, name in names.items() if file.suffix != MANIFEST)
    checked = [file for file, name in names.items() if name in known and (same_table or file.suffix != MANIFEST)]
    newest = _newest_known(layout, path)
    if same_table and newest is not None and newest < min(file for file in files if file.suffix == MANIFEST):
        return [newest]  # it is missing, and Lance takes the version before it for the latest
    return [file for file in checked if _differs(file, known[names[file]], again=again)]


def check_unaltered(layout: Layout, path: Path) -> None:
    """Raise StoreError where a file of a table's latest version differs from its known checksum."""
    for file in altered_files(layout, path):
        there = "it is not what was written: its SHA-256 is another" if file.exists() else "it is missing"
        raise damaged_error(file, there)


def _holds_known(layout: Layout, path: Path, known: Mapping[str, str]) -> bool:
    """Whether a table is the known one: a table made anew has manifests of the same names, their versions."""
    prefix = f"{(path / 'data').relative_to(layout.root)}/"
    return any(name.startswith(prefix) and (layout.root / name).exists() for name in known)


def can_open(damaged: Collection[Path]) -> bool:
    """Whether Lance may open a table of which these files are damaged."""
    return not any(file.suffix == MANIFEST and file.exists() for file in damaged)


def can_read(damaged: Collection[Path]) -> bool:
    """Whether Lance may read a table of which these files are damaged: altered files can make it panic."""
    return not any(file.exists() for file in damaged)


def _differs(file: Path, digest: str, *, again: bool) -> bool:
    """Whether a file is missing or differs. Raises UnreadableError."""
    try:
        return sha256_of(file, again=again) != digest
    except DamagedError:
        return True


def _newest_known(layout: Layout, path: Path) -> Path | None:
    """The manifest of the newest version of a table in the newest ledger that knows it; newer versions sort first."""
    known = next((sums for sums in reversed(list(_ledgers(layout))) if _holds_known(layout, path, sums)), {})
    inside = [layout.root / name for name in known if name.endswith(MANIFEST)]
    return min((file for file in inside if file.is_relative_to(path)), default=None)


def known_sums(layout: Layout) -> Mapping[str, str]:
    """Checksums of files by their path in the store, from all intact ledgers; newer generations override older ones."""
    known: dict[str, str] = {}
    for sums in _ledgers(layout):
        known |= sums
    return known


def _ledgers(layout: Layout) -> Iterator[Mapping[str, str]]:
    """The intact ledgers of all generations, oldest first."""
    for number in generation_numbers(layout):
        path = layout.generations / str(number) / LEDGER
        try:
            if file_sha256(path) == read_manifest(layout, number).sha256.get(LEDGER):
                yield json.loads(path.read_bytes())
        except (OSError, StoreError):
            continue
