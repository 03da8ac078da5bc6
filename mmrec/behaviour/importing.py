"""A file of events into the log."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from mmrec.behaviour.kinds import Kinds
from mmrec.behaviour.known_items import KnownItems
from mmrec.behaviour.log import EventLog
from mmrec.behaviour.prepare import Prepared, prepare
from mmrec.behaviour.raw import Refusal
from mmrec.behaviour.sources.open import EventSource
from mmrec.behaviour.times import TimeRule

__all__ = ["ImportTally", "import_events", "lacking"]

# One commit, one flush to the disk; held in memory once more by the database driver.
_ROWS_PER_COMMIT: Final = 131_072
_EXAMPLES: Final = 10


@dataclass(slots=True)
class ImportTally:
    """What has become of a source's rows so far; `read` is always the sum of the next three.

    Attributes:
        read: Rows met.
        added: Events that are new, and durable.
        known: Events that the log had already, or that the source has twice.
        refused: Rows that are no events; the log keeps their numbers and reasons.
        examples: The first ten of these.
        without_item: Events, new or known, of items that the store lacks; they count once it has them.
        lacking: The first ids of such items, each once.

    """

    read: int = 0
    added: int = 0
    known: int = 0
    refused: int = 0
    examples: list[Refusal] = field(default_factory=list)
    without_item: int = 0
    lacking: list[str] = field(default_factory=list)


def import_events(
    source: EventSource,
    log: EventLog,
    kinds: Kinds,
    times: TimeRule,
    report: Callable[[ImportTally], None] = lambda _tally: None,
    items: KnownItems | None = None,
) -> ImportTally:
    """Append a source's events to a log, some hundred thousand a commit.

    When `report` is called, all that it counts is durable. A run that was killed is repeated as a whole: what the log
    has already is recognised and not taken twice. What is refused of a source replaces what was refused of it before.
    Events of items that are not among `items` are taken, and counted.
    """
    tally = ImportTally()
    name = str(source.path)
    with log.writing() as writer:
        writer.clear_refused(name)
    chunks = (prepare(raw, source.columns, kinds, times) for raw in source.file.chunks(source.columns.names))
    for prepared in _grouped(chunks):
        with log.writing() as writer:
            stored = writer.add(prepared)
            refused = (*prepared.refused, *stored.clashes)
            writer.refuse(name, refused)
        count = sum(one.count for one in refused)
        if items is not None:
            _count_lacking(tally, prepared.events["item"], items)
        tally.added += stored.added
        tally.known += stored.known
        tally.refused += count
        tally.read += stored.added + stored.known + count
        tally.examples += refused[: _EXAMPLES - len(tally.examples)]
        report(tally)
    return tally


def lacking(source: EventSource, kinds: Kinds, times: TimeRule, items: KnownItems) -> ImportTally:
    """Look at the first rows of a source before any is taken: how many are events of items that there are not."""
    tally = ImportTally()
    raw = next(iter(source.file.chunks(source.columns.names)), None)
    if raw is not None:
        events = prepare(raw, source.columns, kinds, times).events
        tally.read = events.num_rows
        _count_lacking(tally, events["item"], items)
    return tally


def _count_lacking(tally: ImportTally, ids: pa.ChunkedArray, items: KnownItems) -> None:
    whole = pa.chunked_array(ids, pa.string()).combine_chunks()
    missing = whole.filter(pa.array(items.rows_of(whole) < 0))
    tally.without_item += len(missing)
    if len(tally.lacking) < _EXAMPLES:
        tally.lacking = list(dict.fromkeys([*tally.lacking, *missing.unique().to_pylist()]))[:_EXAMPLES]


def _grouped(chunks: Iterable[Prepared]) -> Iterator[Prepared]:
    waiting: list[Prepared] = []
    for chunk in chunks:
        waiting.append(chunk)
        if sum(len(one.rows) + len(one.refused) for one in waiting) >= _ROWS_PER_COMMIT:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(chunks: list[Prepared]) -> Prepared:
    return Prepared(
        pa.concat_tables([chunk.events for chunk in chunks]),
        np.concatenate([chunk.rows for chunk in chunks]),
        np.concatenate([chunk.named for chunk in chunks]),
        tuple(refusal for chunk in chunks for refusal in chunk.refused),
    )
