"""Import, export, count and forget the events of a store."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from mmrec.event_log import note_events, open_event_log
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import EventColumns, load_events
from mmrec.events.files import open_events
from mmrec.events.histories import KnownItems
from mmrec.events.import_export import EventTally, count_unknown_items, export_events, formula_cells, import_events
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.log import EventLog
from mmrec.events.stats import RatingStats, event_stats, rating_stats
from mmrec.events.times import TimeRule
from mmrec.reporting import SILENT, Advance, Reporter
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.tables import check_unaltered

_SOME = 3


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """One run of ``mmrec events import``.

    Attributes:
        store: The store's directory, made where it does not exist: events may come before the catalog.
        source: The events: a path, or a URL of an object store or a hub data set.
        columns: Columns by part; what is None is told from the names of the columns.
        context: Columns kept beside.
        as_kind: The kind of all events; None reads the column of kinds.
        time_unit: What numbers of time count.
        zone: Zone of the times that name none.
        kinds: TOML file with weights and other names of kinds.
        events: SQLAlchemy URL of the log; None is the store's own.
        encoding: Of a CSV file that is not UTF-8.

    """

    store: Path
    source: str | Path
    columns: Mapping[str, str | None]
    context: tuple[str, ...] = ()
    as_kind: str | None = None
    time_unit: str = "auto"
    zone: str = "UTC"
    kinds: Path | None = None
    events: str | None = None
    encoding: str | None = None


def run_import(asked: ImportOptions, reporter: Reporter = SILENT) -> dict[str, object]:
    """Import a file of events. Raises UsageError, StoreError; see `mmrec.errors`."""
    started = time.perf_counter()
    kinds = Kinds() if asked.kinds is None else load_kinds(asked.kinds)
    times = TimeRule(asked.time_unit, asked.zone)
    source = open_events(asked.source, asked.columns, asked.context, asked.as_kind, asked.encoding)
    Layout(asked.store).create()
    reporter.note(f"Columns of {asked.source}: {_shown(source.columns)}")
    known = _known_items(Layout(asked.store))
    _ask_about_unknown_items(asked, count_unknown_items(source, kinds, times, known), known, reporter)
    with _log(asked.store, asked.events) as log, reporter.progress("importing", source.count) as advance:
        tally = import_events(source, log, kinds, times, _rows_reported(advance), known)
        total = len(log)
        if asked.events is None:
            note_events(Layout(asked.store), log)
        ratings = rating_stats(log, kinds) if source.columns.value else []
    for refusal in tally.examples:
        reporter.note(f"row {refusal.row}, {refusal.column or 'all of it'}: {refusal.reason}")
    if tally.without_item:
        reporter.warn(
            f"{tally.without_item:,} of {tally.read - tally.refused:,} events are of items that {asked.store} does not "
            f"have, such as {_some(tally.unknown_items)}. They are kept, and count once there are such items."
        )
    counts = {name: count for name, count in asdict(tally).items() if name not in {"examples", "unknown_items"}}
    for read in ratings:
        reporter.note(_rated(read, kinds))
    return {"events": total, **counts, "seconds": time.perf_counter() - started}


def _ask_about_unknown_items(asked: ImportOptions, seen: EventTally, known: KnownItems, reporter: Reporter) -> None:
    """At a terminal, ask before events are added most of which are of items that there are not.

    That mostly is the wrong column, or a catalog with other ids. Raises UsageError where the answer is no.
    """
    if not len(known) or 2 * seen.without_item <= seen.read or not reporter.is_interactive:
        return
    reporter.warn(
        f"{seen.without_item:,} of the first {seen.read:,} events are of items that {asked.store} does not have, such "
        f"as {_some(seen.unknown_items)}; it has ids such as {_some(known.ids[:_SOME].to_pylist())}."
    )
    reporter.require_consent(
        "Add the events all the same", yes=False, otherwise="Name the column of the items' ids with --item."
    )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:_SOME]))


def run_export(
    store: Path, out: Path, events: str | None, *, spreadsheet: bool = False, reporter: Reporter = SILENT
) -> int:
    """Export the log. Returns the number of events. Raises UsageError, StoreError."""
    formulas: list[int] = []
    with _log(store, events) as log, reporter.progress("exporting", len(log)) as advance:
        count = export_events(_counted(log, advance, formulas), out, spreadsheet=spreadsheet)
    if sum(formulas) and out.suffix.lower() == ".csv" and not spreadsheet:
        reporter.warn(
            f"{sum(formulas):,} cells begin as a formula does: do not open {out} in a spreadsheet. With --spreadsheet "
            "they are written with an apostrophe before them."
        )
    return count


def run_stats(store: Path, events: str | None) -> dict[str, object]:
    """Count what the log holds, and what cleaning by its defaults leaves out."""
    layout = Layout(store)
    layout.check()
    known = _known_items(layout)
    with _log(store, events) as log:
        found = event_stats(log, known)
        # Before the catalog comes, all items are unknown, and that says nothing about the events.
        _, report = clean(load_events(log.scan()), Cleaning(), known if len(known) else None)
    cleaned = {step.name: step.removed for step in report.steps}
    left = report.steps[-1].left
    return {**asdict(found), "cleaned_away": cleaned, "robots": report.robots, "left_after_cleaning": left}


def refused_rows(store: Path, events: str | None) -> list[dict[str, object]]:
    """List what imports refused, by source and row."""
    with _log(store, events) as log:
        return [
            {"source": source, "row": one.row, "rows": one.count, "column": one.column, "reason": one.reason}
            for source, one in log.refused()
        ]


def run_forget(store: Path, user: str, events: str | None) -> int:
    """Delete all that the log has of a person. Returns the number of events."""
    with _log(store, events) as log:
        gone = log.forget(user)
        if events is None:
            note_events(Layout(store), log)
        return gone


def _known_items(layout: Layout) -> KnownItems:
    check_unaltered(layout, layout.items)
    return KnownItems.of(ItemTable(layout.items).id_rows())


@contextmanager
def _log(store: Path, events: str | None) -> Iterator[EventLog]:
    layout = Layout(store)
    layout.check()
    log = open_event_log(layout, events)
    try:
        yield log
    finally:
        log.close()


def _counted(log: EventLog, advance: Advance, formulas: list[int]) -> Iterator[pa.RecordBatch]:
    for batch in log.scan():
        formulas.append(formula_cells(batch))
        yield batch
        advance(len(batch))


def _rated(read: RatingStats, kinds: Kinds) -> str:
    threshold = kinds.ratings[read.kind]
    how = "compared with the means of their users and items" if threshold is None else f"from {threshold:g} up a like"
    return (
        f"{read.ratings:,} ratings ({read.kind}) from {read.low:g} to {read.high:g}, mean {read.mean:.2f}: "
        f"{read.likes:,} count as likes, {read.dislikes:,} as dislikes, {how}. To read them otherwise, write [ratings] "
        "in a file for --kinds."
    )


def _shown(columns: EventColumns) -> str:
    parts = {name: value for name, value in asdict(columns).items() if value and name != "one_kind"}
    named = ", ".join(
        f"{name} = {value if isinstance(value, str) else '+'.join(value)}" for name, value in parts.items()
    )
    return named if columns.kind else f"{named}; every event is a {columns.one_kind!r}"


def _rows_reported(advance: Advance) -> Callable[[EventTally], None]:
    seen = 0

    def report(tally: EventTally) -> None:
        nonlocal seen
        advance(tally.read - seen)
        seen = tally.read

    return report
