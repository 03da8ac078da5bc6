"""A store's own log of events, checked against what is noted beside it of how much it must hold.

SQLite takes a log that was emptied, or whose write-ahead log was cut off, for one that never held more. So
``events.json`` notes the greatest number of arrival and how many events there were. Recording does not wait for it: it
is written when a log is made, after imports and forgetting, when a training begins, when a store is closed, and at most
once a minute in between.
"""

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mmrec.errors import DamagedError, StoreError
from mmrec.events.dialects import lost_commits, may_write, write_ahead_log
from mmrec.events.log import EventLog, open_log
from mmrec.files import write_atomically
from mmrec.storage.damage import convert_read_errors, damaged_error
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock

_SECONDS_BETWEEN: Final = 60.0


@dataclass(frozen=True, slots=True)
class LogCheckpoint:
    """How much a log held when that was last noted.

    Attributes:
        arrived: The greatest number of arrival; never lower later.
        forgettings: How often someone was forgotten; never lower later.
        events: How many events there were; never fewer while no one else is forgotten. None where not counted.

    """

    arrived: int
    forgettings: int
    events: int | None


def has_events(layout: Layout, place: str | None = None) -> bool:
    """Whether a store has a log of events, or is noted to have had one."""
    return place is not None or layout.events.exists() or checkpoint_path(layout).exists()


def open_event_log(layout: Layout, place: str | None = None) -> EventLog:
    """Open the log of a store, or another that an SQLAlchemy URL names.

    Raises StoreError where the store's own is missing or holds less than it is noted to have held.
    """
    if place is not None:
        return open_log(place)
    least = read_checkpoint(layout)
    is_new = not layout.events.exists()
    if is_new and least is not None and least.arrived:
        raise _damaged(layout, f"it is missing, and it held at least {_count(least)}")
    if is_new and not may_write(layout.events):
        raise StoreError(f"{layout.root} has no events, and none can be recorded: it may not be written")
    ahead = write_ahead_log(layout.events)
    with convert_read_errors(ahead):
        lost = lost_commits(ahead)
    if lost:
        raise _damaged(layout, f"{lost:,} commits in {ahead.name} lie behind a frame that is not what was written")
    log = open_log(layout.events)
    try:
        fault = shortfall(log, least)
    except BaseException:
        log.close()
        raise
    if fault:
        log.close()
        raise _damaged(layout, fault)
    if is_new:
        update_checkpoint(layout, log, wait_seconds=0)
    return log


def shortfall(log: EventLog, least: LogCheckpoint | None, *, count: bool = False) -> str | None:
    """Say what a log lacks of what is noted; with `count`, all events are counted."""
    if least is None:
        return None
    arrived, forgettings = log.arrived(), log.forgettings()
    if arrived < least.arrived or forgettings < least.forgettings:
        return f"its newest event is number {arrived:,}, and it held number {least.arrived:,}"
    if count and least.events is not None and forgettings == least.forgettings and len(log) < least.events:
        return f"it holds {len(log):,} events, and it held {least.events:,}"
    return None


def update_checkpoint(layout: Layout, log: EventLog, *, count: bool = True, wait_seconds: float = 10.0) -> None:
    """Note how much the store's own log holds. What cannot be noted now is noted another time."""
    with suppress(StoreError), file_lock(layout.lock, wait_seconds):
        forgettings, arrived = log.forgettings(), log.arrived()
        before = read_checkpoint(layout)
        if count:
            events = len(log)
            # Who was forgotten meanwhile may be counted or not.
            now = LogCheckpoint(arrived, forgettings, events if log.forgettings() == forgettings else None)
        else:
            same = before is not None and before.forgettings == forgettings
            now = LogCheckpoint(arrived, forgettings, before.events if before is not None and same else None)
        if now != before:
            write_checkpoint(layout, now)


def write_checkpoint(layout: Layout, found: LogCheckpoint | None) -> None:
    """Note how much the log holds, or that there is none. Hold the commit lock."""
    if found is None:
        checkpoint_path(layout).unlink(missing_ok=True)
    else:
        write_atomically(checkpoint_path(layout), _as_bytes(found))


def read_checkpoint(layout: Layout, *, strict: bool = False) -> LogCheckpoint | None:
    """Return what is noted; None where nothing is, or nothing that can be read, which with `strict` is an error."""
    path = checkpoint_path(layout)
    with convert_read_errors(path):
        try:
            written = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        told = json.loads(written)
        found = LogCheckpoint(int(told["arrived"]), int(told["forgettings"]), told["events"])
        if _as_bytes(found) == written:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    if strict:
        raise damaged_error(path, "it is not what was written")
    return None


class CheckpointWriter:
    """Notes how much a log holds while events are recorded, seldom enough not to slow that down."""

    def __init__(self, layout: Layout) -> None:
        """Take the store."""
        self._layout = layout
        self._due = 0.0
        self._pending = False

    def recorded(self, log: EventLog) -> None:
        """Note what was recorded, if it is time again."""
        self._pending = True
        if time.monotonic() >= self._due:
            self.finish(log)

    def finish(self, log: EventLog) -> None:
        """Note what was recorded since the last time."""
        if self._pending:
            update_checkpoint(self._layout, log, count=False, wait_seconds=0)
            self._pending = False
            self._due = time.monotonic() + _SECONDS_BETWEEN


def checkpoint_path(layout: Layout) -> Path:
    """Where it is noted how much a store's log holds."""
    return layout.root / "events.json"


def _as_bytes(found: LogCheckpoint) -> bytes:
    told = json.dumps(asdict(found), sort_keys=True)
    return json.dumps({**asdict(found), "digest": hashlib.sha256(told.encode()).hexdigest()}).encode()


def _count(least: LogCheckpoint) -> str:
    return f"{least.arrived:,} events" if least.events is None else f"{least.events:,} events"


def _damaged(layout: Layout, what: str) -> DamagedError:
    advice = (
        f"restore it from a backup, or go on with what can be read of it: `mmrec repair {layout.root}`; see "
        f"`mmrec verify {layout.root}`"
    )
    return DamagedError(f"{layout.events} is damaged: {what}", advice)
