"""The films of MovieLens 100K: 1,682 titles with year and genres.

Read from the installed package `recbole`, which carries them as a file; its terms forbid passing the file on, so it is
never copied into this project, and the package itself is never imported.
"""

import csv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mmrec.errors import UsageError
from pipelines.catalogs.writing import write_jsonl

__all__ = ["ml_100k_folder", "write_catalog"]

_FOLDER: Final = Path("dataset_example/ml-100k")


def ml_100k_folder() -> Path:
    """Return the folder with ml-100k.item, .inter and .user. Raises UsageError where `recbole` is not installed."""
    package = find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        if (folder := Path(place) / _FOLDER).is_dir():
            return folder
    raise UsageError("ml-100k comes inside the package recbole 1.2.1: run `pip install --no-deps recbole==1.2.1`.")


def write_catalog(out: Path) -> Path:
    """Write the films as JSON Lines with columns id, title, year and genres. Returns `out`. Raises UsageError."""
    return write_jsonl(_films(ml_100k_folder() / "ml-100k.item"), out)


def _films(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        for item_id, title, year, genres in lines:
            yield {
                "id": item_id,
                "title": title,
                "year": int(year) if year.isdigit() else None,
                "genres": ", ".join(genres.split()),
            }
