"""Where bytes inside a table are: ``/path/file.parquet#row=12&column=image``, written and read back."""

import importlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.errors import MediaError

__all__ = ["is_in_table", "read_from_table", "table_uri"]

_READ_AHEAD: Final = 1024 * 1024
_IN_TABLE: Final = re.compile(r"(?P<file>.+)#row=(?P<row>\d+)&column=(?P<column>[^&#]+)", re.DOTALL)


def table_uri(file: Path, row: int, column: str) -> str:
    """Name the bytes in one cell. `row` counts from 0 within `file`."""
    return f"{file}#row={row}&column={quote(column, safe='')}"


def is_in_table(uri: str) -> bool:
    """Whether a URI names a cell of a table rather than a file."""
    return _IN_TABLE.fullmatch(uri) is not None


def read_from_table(uri: str) -> bytes:
    """Return the bytes in the cell that a URI names. Raises MediaError where there are none."""
    match = _IN_TABLE.fullmatch(uri)
    if match is None:
        raise MediaError("The address names no cell of a table.")
    file, row, column = Path(match["file"]), int(match["row"]), unquote(match["column"])
    try:
        value = (_cell_of_dataset if file.is_dir() else _cell_of_parquet)(file, row, column)
    except (OSError, KeyError, IndexError, ValueError, pa.ArrowException) as error:
        raise MediaError(f"Row {row} of the table, column {column!r}, cannot be read any more.") from error
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise MediaError(f"Row {row} of the table holds no bytes in column {column!r}.")
    return value


def _cell_of_parquet(path: Path, row: int, column: str) -> object:
    with pq.ParquetFile(path, buffer_size=_READ_AHEAD, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row >= rows:
                row -= rows
                continue
            for batch in file.iter_batches(64, row_groups=[group], columns=[column]):
                if row < len(batch):
                    return batch.column(column)[row].as_py()
                row -= len(batch)
    raise IndexError(row)


@lru_cache(maxsize=4)
def _opened_dataset(path: Path, _changed: int) -> Any:  # noqa: ANN401 - the library has no types
    return importlib.import_module("datasets").load_from_disk(str(path)).with_format("arrow")


def _cell_of_dataset(path: Path, row: int, column: str) -> object:
    dataset = _opened_dataset(path, (path / "state.json").stat().st_mtime_ns)
    return dataset[row : row + 1].column(column)[0].as_py()
