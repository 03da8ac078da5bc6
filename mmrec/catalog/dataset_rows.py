"""Rows of directories that `Dataset.save_to_disk` wrote."""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmrec.catalog.arrow_rows import BATCH, rows_of_batch
from mmrec.catalog.places import Place
from mmrec.catalog.rows import Row
from mmrec.catalog.storage import first_line
from mmrec.errors import UsageError
from mmrec.items import Reject

__all__ = ["batches_of_saved", "cell_of_saved", "open_dataset"]


@dataclass(frozen=True, slots=True)
class _Dataset:
    folder: Place
    dataset: Any
    types: Mapping[str, pa.DataType]

    @property
    def count(self) -> int:
        return len(self.dataset)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        first = 0
        for table in self.dataset.select_columns(list(names)).iter(BATCH):
            yield from rows_of_batch(table, first + 1, (self.folder.name, str(self.folder)), first)
            first += table.num_rows


@dataclass(frozen=True, slots=True)
class _RemoteDataset:
    folder: Place
    types: Mapping[str, pa.DataType]
    count: None = None

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        first = 0
        for batch in batches_of_saved(self.folder):
            for start in range(0, batch.num_rows, BATCH):
                piece = batch.slice(start, BATCH).select(list(names))
                yield from rows_of_batch(piece, first + 1, (self.folder.name, str(self.folder)), first)
                first += piece.num_rows


def open_dataset(path: Place) -> _Dataset | _RemoteDataset:
    """Open a directory written by `Dataset.save_to_disk`; its pictures and sounds stay the bytes they are.

    On this machine its files are mapped into memory; in an object store they are streamed. Raises UsageError where it
    cannot be opened.
    """
    try:
        if path.is_remote:
            return _RemoteDataset(path, _types(_schema_of_saved(path)))
        datasets = importlib.import_module("datasets")
        # The Arrow format hands out the stored table: nothing decodes, so no decoder need be installed.
        dataset = datasets.load_from_disk(str(path)).with_format("arrow")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UsageError(
            f"{path.name} is not a `datasets` directory that can be opened: {first_line(error)}."
        ) from error
    return _Dataset(path, dataset, _types(dataset.features.arrow_schema))


def batches_of_saved(path: Place) -> Iterator[pa.RecordBatch]:
    """Stream the record batches of a saved directory, file after file."""
    for name in _files_of_saved(path):
        with path.join(name).open() as file, pa.ipc.open_stream(file) as batches:
            yield from batches


def cell_of_saved(path: Place, row: int, column: str) -> object:
    """Return one cell of a saved directory. Raises IndexError where there is no such row."""
    if not path.is_remote:
        dataset = _opened(str(path), (Path(str(path)) / "state.json").stat().st_mtime_ns)
        return dataset[row : row + 1].column(column)[0].as_py()
    for batch in batches_of_saved(path):
        if row < batch.num_rows:
            return batch.column(column)[row].as_py()
        row -= batch.num_rows
    raise IndexError(row)


@lru_cache(maxsize=4)
def _opened(path: str, _changed: int) -> Any:  # noqa: ANN401 - the library has no types
    return importlib.import_module("datasets").load_from_disk(path).with_format("arrow")


def _schema_of_saved(path: Place) -> pa.Schema:
    with path.join(_files_of_saved(path)[0]).open() as file, pa.ipc.open_stream(file) as batches:
        return batches.schema


def _files_of_saved(path: Place) -> list[str]:
    with path.join("state.json").open() as file:
        return [str(entry["filename"]) for entry in json.load(file)["_data_files"]]


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))
