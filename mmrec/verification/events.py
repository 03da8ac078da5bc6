"""Checking a store's log of events, and saving what can be read of a damaged one."""

import shutil
import uuid
from contextlib import closing
from pathlib import Path

from mmrec.errors import DamagedError
from mmrec.event_log import Noted, note_of, noted, shortfall, write_note
from mmrec.events.database.dialects import faults_of_sqlite, write_ahead_log
from mmrec.events.database.salvage import salvage_sqlite
from mmrec.events.log import open_log
from mmrec.storage.damage import reading
from mmrec.storage.files import sync_file
from mmrec.storage.layout import Layout
from mmrec.storage.salvaged import KEEP
from mmrec.verification.findings import VerificationReport

__all__ = ["check_events", "mend_events"]


def check_events(report: VerificationReport, layout: Layout) -> None:
    """Check the store's own log: integrity, references, write-ahead log, and how much it must hold at least.

    SQLite keeps no checksums of its pages: a change within the text of an event that no index holds is not seen.
    """
    least = None
    with report.guarded("events", note_of(layout)):
        least = noted(layout, strict=True)
    if not layout.events.exists():
        if least is not None and least.arrived:
            report.add("events", layout.events, f"it is missing, and it held {_told(least)}")
        return
    with report.guarded("events", layout.events):
        faults = faults_of_sqlite(layout.events)
        for fault in faults:
            report.add("events", layout.events, fault)
        if faults:
            return
        with closing(open_log(layout.events)) as log:
            lacking = shortfall(log, least, count=True)
            report.checked["events"] = len(log)
        if lacking is not None:
            report.add("events", layout.events, lacking)


def mend_events(layout: Layout) -> list[str]:
    """Put what can be read of a damaged log in its place. Hold the commit lock. Returns what was done."""
    report = VerificationReport(layout.root)
    check_events(report, layout)
    if not report.findings:
        return []
    try:
        least = noted(layout, strict=True)
    except DamagedError:
        least = None
    actions: list[str] = []
    if any(layout.root / one.where == layout.events for one in report.findings):
        actions.append(_save(layout, least))
    with closing(open_log(layout.events)) as log:
        write_note(layout, Noted(log.arrived(), log.forgettings(), len(log)))
    return [*actions, "noted anew how much the log of events holds"]


def _save(layout: Layout, least: Noted | None) -> str:
    """Copy the log aside, and replace it by what can be read of the copy. Returns what was saved and lost."""
    log, ahead = layout.events, write_ahead_log(layout.events)
    new = log.with_name(f".{log.name}.new")
    _unlink(new)
    aside = layout.damaged / f"{log.name}.{uuid.uuid4().hex}{KEEP}"
    aside.mkdir(parents=True)
    with reading(log):
        for path in (log, ahead):
            if path.exists():
                shutil.copyfile(path, aside / path.name)
                shutil.copyfile(path, aside / f"whole-{path.name}")
    saved = salvage_sqlite(aside / log.name, new, least.arrived if least else 0)
    for path in (log, ahead):  # reading the copy has changed it
        (aside / f"whole-{path.name}").replace(aside / path.name) if path.exists() else None
    sync_file(new)
    ahead.unlink(missing_ok=True)
    log.with_name(f"{log.name}-shm").unlink(missing_ok=True)
    new.replace(log)
    if not any(aside.iterdir()):
        aside.rmdir()
        return f"made a new, empty log of events: the old one is missing, and it held {_told(least)}"
    known = least.events if least is not None else None
    lost = f"at least {max(0, known - saved):,} are lost" if known is not None else "how many are lost is not known"
    return (
        f"saved {saved:,} events of the log; {lost}. The damaged log is kept in {aside.relative_to(layout.root)}; "
        "better restore it from a backup"
    )


def _unlink(database: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)


def _told(least: Noted | None) -> str:
    if least is None:
        return "an unknown number of events"
    return f"{least.arrived if least.events is None else least.events:,} events"
