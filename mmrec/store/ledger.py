"""Checksums of the tables' files. Lance writes each of them once, and checks none when it reads."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from mmrec.errors import DamagedError, StoreError
from mmrec.store.checksums import sha256_of
from mmrec.store.damage import damaged, reading
from mmrec.store.files import file_sha256
from mmrec.store.generations import manifest, numbers
from mmrec.store.layout import Layout
from mmrec.store.tables import open_table

__all__ = ["LEDGER", "altered", "check_unaltered", "known_sums", "ledger", "opens", "readable", "table_files"]

LEDGER = "tables.json"
MANIFEST = ".manifest"
HOLDS_DATA = {"manifest", "data file", "deletion file"}


def table_files(path: Path) -> list[Path]:
    """The files that make up a table's latest version. Raises StoreError where it cannot be opened."""
    table = open_table(path)
    if table is None:
        return []
    listed = table.tracked_files(min_version=table.version).read_all().to_pylist()
    return sorted(path / one["path"] for one in listed if one["type"] in HOLDS_DATA)


def ledger(layout: Layout, tables: Iterable[Path]) -> bytes:
    """Serialise the checksums of the files of tables; those known to an earlier generation are not read again."""
    known = known_sums(layout)
    names = {str(file.relative_to(layout.root)): file for path in tables for file in table_files(path)}
    reread = {name for name, file in names.items() if file.suffix == MANIFEST or name not in known}
    sums = {name: file_sha256(file) if name in reread else known[name] for name, file in sorted(names.items())}
    return json.dumps(sums, indent=0).encode()


def altered(layout: Layout, path: Path, *, again: bool = False) -> list[Path]:
    """The files of a table's latest version that are not what was written, as far as a generation knows them.

    With `again`, files are read also where this process has checked them before and they were not touched since.

    Raises StoreError where the table cannot be opened.
    """
    with reading(path):
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
    # The name of a manifest is its version, which says nothing once a table was lost and made anew.
    same_table = any(name in known for file, name in names.items() if file.suffix != MANIFEST)
    checked = [file for file, name in names.items() if name in known and (same_table or file.suffix != MANIFEST)]
    newest = _newest_known(layout, path)
    if same_table and newest is not None and newest < min(file for file in files if file.suffix == MANIFEST):
        return [newest]  # it is missing, and Lance takes the version before it for the latest
    return [file for file in checked if _differs(file, known[names[file]], again=again)]


def check_unaltered(layout: Layout, path: Path) -> None:
    """Raise StoreError where a file of a table's latest version is not what was written, as far as it is known."""
    for file in altered(layout, path):
        there = "it is not what was written: its SHA-256 is another" if file.exists() else "it is missing"
        raise damaged(file, there)


def _holds_known(layout: Layout, path: Path, known: Mapping[str, str]) -> bool:
    """Whether a table is the one that is known: a manifest's name is its version, and a table made anew has it too."""
    prefix = f"{(path / 'data').relative_to(layout.root)}/"
    return any(name.startswith(prefix) and (layout.root / name).exists() for name in known)


def opens(damaged: Collection[Path]) -> bool:
    """Whether Lance may open a table of which these files are damaged."""
    return not any(file.suffix == MANIFEST and file.exists() for file in damaged)


def readable(damaged: Collection[Path]) -> bool:
    """Whether Lance may read a table of which these files are damaged: reading an altered one can end in a panic."""
    return not any(file.exists() for file in damaged)


def _differs(file: Path, digest: str, *, again: bool) -> bool:
    """Whether a file is missing or another. Raises UnreadableError."""
    try:
        return sha256_of(file, again=again) != digest
    except DamagedError:
        return True


def _newest_known(layout: Layout, path: Path) -> Path | None:
    """The manifest of the newest version of a table that the newest generation knows: older ones may have had another.

    The name of a newer version comes first.
    """
    known = next((sums for sums in reversed(list(_ledgers(layout))) if _holds_known(layout, path, sums)), {})
    inside = [layout.root / name for name in known if name.endswith(MANIFEST)]
    return min((file for file in inside if file.is_relative_to(path)), default=None)


def known_sums(layout: Layout) -> Mapping[str, str]:
    """Checksums of files by their place in the store, from every generation whose own list of them is whole.

    The newer generation has the last word.
    """
    known: dict[str, str] = {}
    for sums in _ledgers(layout):
        known |= sums
    return known


def _ledgers(layout: Layout) -> Iterator[Mapping[str, str]]:
    """The lists of all generations that are whole, oldest first."""
    for number in numbers(layout):
        path = layout.generations / str(number) / LEDGER
        try:
            if file_sha256(path) == manifest(layout, number).sha256.get(LEDGER):
                yield json.loads(path.read_bytes())
        except (OSError, StoreError):
            continue
