"""Writers of one catalog in every kind of source: ids, titles and prices."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, object]]


def _parquet(rows: Rows, folder: Path) -> str:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "catalog.parquet")
    return str(folder / "catalog.parquet")


def _parquet_folder(rows: Rows, folder: Path) -> str:
    (folder / "parts").mkdir()
    for place in range(0, len(rows), 3):
        pq.write_table(pa.Table.from_pylist(list(rows[place : place + 3])), folder / "parts" / f"{place:06d}.parquet")
    return str(folder / "parts")


def _jsonl(rows: Rows, folder: Path) -> str:
    (folder / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "catalog.jsonl")


def _csv(rows: Rows, folder: Path) -> str:
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return str(folder / "catalog.csv")


def _saved(rows: Rows, folder: Path) -> str:
    datasets.disable_progress_bars()
    datasets.Dataset(pa.Table.from_pylist(list(rows))).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def _tar(rows: Rows, folder: Path, mode: str, name: str) -> str:
    with tarfile.open(folder / name, mode) as tar:
        for number, row in enumerate(rows):
            data = json.dumps(row).encode()
            info = tarfile.TarInfo(f"{number:06d}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(folder / name)


def _folder(rows: Rows, folder: Path) -> str:
    for row in rows:
        path = folder / "media" / f"{row['id']}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({name: value for name, value in row.items() if name != "id"}))
    return str(folder / "media")


def _hub(rows: Rows, folder: Path) -> str:
    (folder / "data").mkdir()
    _jsonl(rows, folder / "data")
    return f"hf:{folder / 'data'}?split=train"


_WRITERS: Mapping[str, Callable[[Rows, Path], str]] = {
    "parquet": _parquet,
    "folder of parquet": _parquet_folder,
    "json lines": _jsonl,
    "csv": _csv,
    "saved dataset": _saved,
    "tar": lambda rows, folder: _tar(rows, folder, "w", "shard.tar"),
    "compressed tar": lambda rows, folder: _tar(rows, folder, "w:gz", "shard.tar.gz"),
    "folder": _folder,
    "hub": _hub,
}


def _afresh(write: Callable[[Rows, Path], str]) -> Callable[[Rows, Path], str]:
    def written(rows: Rows, folder: Path) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return write(rows, folder)

    return written


KINDS: Mapping[str, Callable[[Rows, Path], str]] = {name: _afresh(write) for name, write in _WRITERS.items()}
"""By name: rows and a folder, which is emptied first -> the source's address."""
