"""What kind of source lies at an address."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from mmrec.catalog.csv_rows import open_csv
from mmrec.catalog.dataset_rows import open_dataset
from mmrec.catalog.folder_rows import open_folder
from mmrec.catalog.hub_rows import is_hub, open_hub
from mmrec.catalog.jsonl_rows import open_jsonl
from mmrec.catalog.parquet_rows import open_parquet
from mmrec.catalog.patterns import is_pattern, matching
from mmrec.catalog.places import Place, place
from mmrec.catalog.rows import Reader
from mmrec.catalog.storage import reaching
from mmrec.catalog.suffixes import modality_of_name
from mmrec.catalog.tar_members import SUFFIXES as TARS
from mmrec.catalog.tar_rows import open_tars
from mmrec.errors import UsageError
from mmrec.modality import Modality

__all__ = ["open_reader", "single_tables"]

_CSV: Final = (".csv", ".tsv")
_PARQUET: Final = (".parquet", ".pq")
_SINGLE: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_NAMED: Final = 5
_OPENERS: Final[dict[str, Callable[[Place], Reader]]] = {
    **dict.fromkeys(_PARQUET, open_parquet),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), open_jsonl),
    **dict.fromkeys(_CSV, open_csv),
}


def open_reader(address: str | Path, encoding: str | None = None) -> Reader:
    """Open a source's rows by what lies at an address; `encoding` is for CSV. Raises UsageError for nothing known."""
    if is_hub(str(address)):
        return open_hub(str(address))
    found = place(address)
    if encoding is not None and found.suffix not in _CSV:
        raise UsageError(f"An encoding is given for {found.name}, which is no CSV file: leave out --encoding.")
    with reaching(str(found)):
        if found.is_folder():
            return _open_folder(found)
        if found.exists():
            return _open_file(found) if encoding is None else open_csv(found, encoding)
        if is_pattern(str(found)):
            return _open_files(found)
    raise UsageError(f"There is no {found}: give a file or a directory that exists.")


def _open_file(found: Place) -> Reader:
    if found.name.lower().endswith(TARS):
        return open_tars(found.parent, [found])
    opener = _OPENERS.get(found.suffix)
    if opener is None:
        raise UsageError(f"{found.name} is of no known kind; a source is {_known()}.")
    return opener(found)


def _open_files(pattern: Place) -> Reader:
    files = matching(pattern)
    folder = files[0].parent
    if all(file.name.lower().endswith(TARS) for file in files):
        return open_tars(folder, files)
    if all(file.suffix in _PARQUET for file in files):
        return open_parquet(folder, files)
    raise UsageError(f"{pattern} stands for files that are not all .tar or all .parquet, such as {files[0].name}.")


def _open_folder(folder: Place) -> Reader:
    if folder.join("dataset_dict.json").exists():
        splits = ", ".join(sorted(file.parent.name for file in folder.files("state.json")))
        raise UsageError(
            f"{folder.name} is a `datasets` directory of several splits: give one of {splits}, as PATH/SPLIT."
        )
    if folder.join("state.json").exists() and folder.join("dataset_info.json").exists():
        return open_dataset(folder)
    tables, archives, loose = _contents(folder)
    if tables:
        return open_parquet(folder, tables)
    if archives and loose is not None:
        raise UsageError(
            f"{folder.name} has archives in it, such as {archives[0].inside(folder)}, and loose files, such as "
            f"{loose}; name the archives alone, as {folder}/*.tar, or index the loose files from a folder of their own."
        )
    if archives:
        return open_tars(folder, archives)
    single = single_tables(folder)
    if single:
        raise UsageError(
            f"{folder.name or folder} is no folder of pictures and sounds; it holds tables, and a table is indexed by "
            f"its own name. Name one of {', '.join(single[:_NAMED])}{', ...' if len(single) > _NAMED else ''}."
        )
    return open_folder(folder)


def single_tables(folder: Place) -> list[str]:
    """Return the CSV and JSON Lines files right in a folder that has no media beside them; texts may be notes."""
    tables: list[str] = []
    texts = 0
    for inside, names in folder.walk():
        modalities = [modality_of_name(name) for name in names]
        if Modality.IMAGE in modalities or Modality.AUDIO in modalities:
            return []
        texts += modalities.count(Modality.TEXT)
        tables += [] if inside else [name for name in names if name.lower().endswith(_SINGLE)]
    return tables if len(tables) >= texts else []


def _contents(folder: Place) -> tuple[Sequence[Place], Sequence[Place], str | None]:
    """Return the Parquet files and the archives in a folder, and the first loose picture or sound."""
    tables: list[Place] = []
    archives: list[Place] = []
    loose = None
    for inside, names in folder.walk():
        for name in names:
            path = f"{inside}/{name}" if inside else name
            if name.lower().endswith(_PARQUET[0]):
                if not any(part.startswith("_") for part in path.split("/")):
                    tables.append(folder.join(path))
            elif name.lower().endswith(TARS):
                archives.append(folder.join(path))
            elif loose is None and modality_of_name(name) is not None:
                loose = path
    return tables, archives, loose


def _known() -> str:
    return (
        f"a file ({', '.join(chain(_OPENERS, TARS))}), a pattern of such archives or Parquet files, a directory of "
        "them, a `datasets` directory, a folder of media, or hf:OWNER/NAME"
    )
