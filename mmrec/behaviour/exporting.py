"""The log into a file, which imports to the same log again."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexers.atomic import atomic_file
from mmrec.behaviour.event import SCHEMA
from mmrec.errors import UsageError
from mmrec.output import check_output

__all__ = ["EXPORT_SCHEMA", "export_events", "formula_cells"]

_FORMULA: Final = r"^([=+\-@\t\r])"
_FREE_TEXTS: Final = ("user", "item", "kind")

EXPORT_SCHEMA: Final = SCHEMA.set(0, pa.field("id", pa.string(), nullable=False))
"""Columns of an export: those of the log, ids spelled in hex."""


def export_events(batches: Iterable[pa.RecordBatch], path: Path, *, spreadsheet: bool = False) -> int:
    """Write events, as `EventLog.scan` gives them, as Parquet, CSV or JSON Lines by the suffix. Returns their number.

    A CSV file holds ids as they are, so that it can be imported again. With `spreadsheet` those that a spreadsheet
    would run as a formula get an apostrophe before them, as OWASP advises, and are other ids when they are imported.

    The file is there whole or not at all. Raises UsageError for another suffix, or where a device or a link is there.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{path.name} is of no known kind: name it with one of {', '.join(_WRITERS)}.")
    check_output(path)
    if spreadsheet and path.suffix.lower() != ".csv":
        raise UsageError(f"{path.name} is no CSV file: only there are cells escaped for spreadsheets.")
    with atomic_file(path) as file:
        return write((_spelled(batch, spreadsheet=spreadsheet) for batch in batches), file)


def formula_cells(batch: pa.RecordBatch) -> int:
    """Count the ids that a spreadsheet would run as a formula: those that begin with =, +, -, @, a tab or a return."""
    return sum(pc.sum(pc.match_substring_regex(batch[name], _FORMULA)).as_py() or 0 for name in _FREE_TEXTS)


def _spelled(batch: pa.RecordBatch, *, spreadsheet: bool) -> pa.RecordBatch:
    ids = pa.array([value.hex() for value in batch["id"].to_pylist()], pa.string())
    columns = {name: batch[name] for name in SCHEMA.names[1:]}
    if spreadsheet:
        columns |= {name: pc.replace_substring_regex(columns[name], _FORMULA, r"'\1") for name in _FREE_TEXTS}
    return pa.record_batch([ids, *columns.values()], schema=EXPORT_SCHEMA)


def _parquet(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    with pq.ParquetWriter(file, EXPORT_SCHEMA, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += len(batch)
    return count


def _csv(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    # All texts in quotes: the module leaves a bare carriage return without, and then does not read it back.
    lines = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    lines.writerow(EXPORT_SCHEMA.names)
    count = 0
    for row in _rows(batches):
        lines.writerow(row.values())
        count += 1
    text.detach()
    return count


def _json_lines(batches: Iterator[pa.RecordBatch], file: BinaryIO) -> int:
    count = 0
    for row in _rows(batches):
        known = {name: value for name, value in row.items() if value is not None}
        file.write(json.dumps(known, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[Mapping[str, object]]:
    for batch in batches:
        for row in batch.to_pylist():
            yield {**row, "time": row["time"].isoformat()}


_WRITERS: Final[Mapping[str, Callable[[Iterator[pa.RecordBatch], BinaryIO], int]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _json_lines,
}
