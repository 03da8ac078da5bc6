"""Import, export, count and forget the events of a store."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrec.event_log import open_event_log, update_checkpoint
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import EventColumns, load_events
from mmrec.events.files import open_events
from mmrec.events.histories import KnownItems
from mmrec.events.import_export import EventTally, count_unknown_items, export_events, import_events
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.log import EventLog
from mmrec.events.stats import RatingStats, event_stats, rating_stats
from mmrec.events.times import TimeRule
from mmrec.reporting import SILENT, Reporter, running_total
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.tables import check_unaltered

_SOME = 3


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of ``mmrec events import``.

    Attributes:
        store: The store's directory, created if missing: events may come before the catalog.
        source: The events: a path, or a URL of an object store or a hub data set.
        columns: Column by part of an event; those that are None are guessed from the column names.
        context: Extra columns stored as context.
        as_kind: The kind of all events; None reads the column of kinds.
        time_unit: Unit of numeric times.
        zone: Time zone of times without one.
        kinds: TOML file with weights and aliases of kinds.
        events: SQLAlchemy URL of the log; None is the store's own.
        encoding: Text encoding of a CSV file that is not UTF-8.

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


def run_import(options: ImportOptions, reporter: Reporter = SILENT) -> dict[str, object]:
    """Import a file of events. Raises UsageError, StoreError; see `mmrec.errors`."""
    started = time.perf_counter()
    kinds = Kinds() if options.kinds is None else load_kinds(options.kinds)
    times = TimeRule(options.time_unit, options.zone)
    source = open_events(options.source, options.columns, options.context, options.as_kind, options.encoding)
    Layout(options.store).create()
    reporter.note(f"Columns of {options.source}: {_shown(source.columns)}")
    known = _known_items(Layout(options.store))
    _ask_about_unknown_items(options, count_unknown_items(source, kinds, times, known), known, reporter)
    with _log(options.store, options.events) as log, reporter.progress("importing", source.count) as advance:
        steps = running_total(advance)
        tally = import_events(source, log, kinds, times, lambda tally: steps(tally.read), known)
        total = len(log)
        if options.events is None:
            update_checkpoint(Layout(options.store), log)
        ratings = rating_stats(log, kinds) if source.columns.value else []
    for refusal in tally.examples:
        reporter.note(f"row {refusal.row}, {refusal.column or 'all of it'}: {refusal.reason}")
    if tally.without_item:
        reporter.warn(
            f"{tally.without_item:,} of {tally.read - tally.refused:,} events are of items that {options.store} does "
            f"not have, such as {_some(tally.unknown_items)}. They are kept, and count once these items exist."
        )
    counts = {name: count for name, count in asdict(tally).items() if name not in {"examples", "unknown_items"}}
    for read in ratings:
        reporter.note(_rated(read, kinds))
    return {"events": total, **counts, "seconds": time.perf_counter() - started}


def _ask_about_unknown_items(options: ImportOptions, seen: EventTally, known: KnownItems, reporter: Reporter) -> None:
    """At a terminal, ask before adding events that mostly refer to unknown items.

    That mostly is the wrong column, or a catalog with other ids. Raises UsageError where the answer is no.
    """
    if not len(known) or 2 * seen.without_item <= seen.read or not reporter.is_interactive:
        return
    reporter.warn(
        f"{seen.without_item:,} of the first {seen.read:,} events are of items that {options.store} does not have, "
        f"such as {_some(seen.unknown_items)}; it has ids such as {_some(known.ids[:_SOME].to_pylist())}."
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
    with _log(store, events) as log, reporter.progress("exporting", len(log)) as advance:
        count, formulas = export_events(log.scan(), out, spreadsheet=spreadsheet, advance=advance)
    if formulas and out.suffix.lower() == ".csv" and not spreadsheet:
        reporter.warn(
            f"{formulas:,} cells begin like a formula: do not open {out} in a spreadsheet. With --spreadsheet they get "
            "an apostrophe before them."
        )
    return count


def run_stats(store: Path, events: str | None) -> dict[str, object]:
    """Count what the log holds, and what cleaning by its defaults removes."""
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
    """Delete all events of a user. Returns how many."""
    with _log(store, events) as log:
        gone = log.forget(user)
        if events is None:
            update_checkpoint(Layout(store), log)
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


def _rated(read: RatingStats, kinds: Kinds) -> str:
    threshold = kinds.ratings[read.kind]
    how = (
        "compared with the means of their users and items" if threshold is None else f"{threshold:g} or more is a like"
    )
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
