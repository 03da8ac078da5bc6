"""Import event files into the log, and export the log to a file that imports to the same log."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexers.atomic import atomic_file
from mmrec.errors import UsageError
from mmrec.events.event import SCHEMA, RefusedRow
from mmrec.events.files import EventSource
from mmrec.events.histories import KnownItems
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.prepare import PreparedEvents, prepare
from mmrec.events.times import TimeRule
from mmrec.files import check_output

# One commit, one flush to the disk; held in memory once more by the database driver.
_ROWS_PER_COMMIT: Final = 131_072
_EXAMPLES: Final = 10


@dataclass(slots=True)
class EventTally:
    """Counts of a source's rows so far; `read` is the sum of `added`, `known` and `refused`.

    `known` events were in the log before, or twice in the source. `without_item` counts events of unknown items, whose
    first ids are in `unknown_items`; they count once the items exist. `examples` are the first refused rows.
    """

    read: int = 0
    added: int = 0
    known: int = 0
    refused: int = 0
    examples: list[RefusedRow] = field(default_factory=list)
    without_item: int = 0
    unknown_items: list[str] = field(default_factory=list)


def import_events(
    source: EventSource,
    log: EventLog,
    kinds: Kinds,
    times: TimeRule,
    report: Callable[[EventTally], None] = lambda _tally: None,
    items: KnownItems | None = None,
) -> EventTally:
    """Append a source's events to a log, some hundred thousand per commit.

    All that is counted when `report` is called is durable. A killed import is simply repeated: known events are not
    added again, and refused rows of the same source are replaced. Events of items that are not among `items` are added
    and counted.
    """
    tally = EventTally()
    name = source.address
    with log.writing() as writer:
        writer.clear_refused(name)
    chunks = (prepare(raw, source.columns, kinds, times) for raw in source.batches())
    for prepared in _grouped(chunks):
        with log.writing() as writer:
            stored = writer.add(prepared)
            refused = (*prepared.refused, *stored.clashes)
            writer.refuse(name, refused)
        count = sum(one.count for one in refused)
        if items is not None:
            _count_unknown(tally, prepared.events["item"], items)
        tally.added += stored.added
        tally.known += stored.known
        tally.refused += count
        tally.read += stored.added + stored.known + count
        tally.examples += refused[: _EXAMPLES - len(tally.examples)]
        report(tally)
    return tally


def count_unknown_items(source: EventSource, kinds: Kinds, times: TimeRule, items: KnownItems) -> EventTally:
    """Count how many of the first rows of a source refer to unknown items; nothing is added."""
    tally = EventTally()
    raw = next(iter(source.batches()), None)
    if raw is not None:
        events = prepare(raw, source.columns, kinds, times).events
        tally.read = events.num_rows
        _count_unknown(tally, events["item"], items)
    return tally


def _count_unknown(tally: EventTally, ids: pa.ChunkedArray, items: KnownItems) -> None:
    whole = pa.chunked_array(ids, pa.string()).combine_chunks()
    missing = whole.filter(pa.array(items.rows_of(whole) < 0))
    tally.without_item += len(missing)
    if len(tally.unknown_items) < _EXAMPLES:
        tally.unknown_items = list(dict.fromkeys([*tally.unknown_items, *missing.unique().to_pylist()]))[:_EXAMPLES]


def _grouped(chunks: Iterable[PreparedEvents]) -> Iterator[PreparedEvents]:
    waiting: list[PreparedEvents] = []
    for chunk in chunks:
        waiting.append(chunk)
        if sum(len(one.rows) + len(one.refused) for one in waiting) >= _ROWS_PER_COMMIT:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(chunks: list[PreparedEvents]) -> PreparedEvents:
    return PreparedEvents(
        pa.concat_tables([chunk.events for chunk in chunks]),
        np.concatenate([chunk.rows for chunk in chunks]),
        np.concatenate([chunk.named for chunk in chunks]),
        tuple(refusal for chunk in chunks for refusal in chunk.refused),
    )


_FORMULA: Final = r"^([=+\-@\t\r])"
_FREE_TEXTS: Final = ("user", "item", "kind")

EXPORT_SCHEMA: Final = SCHEMA.set(0, pa.field("id", pa.string(), nullable=False))
"""Columns of an export: those of the log, ids spelled in hex."""


def export_events(
    batches: Iterable[pa.RecordBatch],
    path: Path,
    *,
    spreadsheet: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[int, int]:
    """Write events, as `EventLog.scan` gives them, as Parquet, CSV or JSON Lines by the suffix.

    Returns the number of events, and of ids that a spreadsheet would run as a formula: those that begin with =, +, -,
    @, a tab or a return. A CSV file holds ids as they are, so that it can be imported again; with `spreadsheet` such
    ids get an apostrophe, as OWASP advises, and are other ids when imported. The file is written atomically. Raises
    UsageError for another suffix, a device or a link.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{path.name} is of no known kind: name it with one of {', '.join(_WRITERS)}.")
    check_output(path)
    if spreadsheet and path.suffix.lower() != ".csv":
        raise UsageError(f"{path.name} is no CSV file: only there are cells escaped for spreadsheets.")
    formulas = 0

    def prepared() -> Iterator[pa.RecordBatch]:
        nonlocal formulas
        for batch in batches:
            found = [pc.sum(pc.match_substring_regex(batch[name], _FORMULA)).as_py() for name in _FREE_TEXTS]
            formulas += sum(filter(None, found))
            yield _spelled(batch, spreadsheet=spreadsheet)
            advance(len(batch))

    with atomic_file(path) as file:
        count = write(prepared(), file)
    return count, formulas


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
