"""A store's own event log, verified against the event count recorded beside it in ``events.json``.

SQLite reads a log that was emptied, or whose write-ahead log was cut off, as one that never held more. So a checkpoint
records the greatest sequence number and the number of events. Recording does not wait for it: it is updated when a log
is created, after imports and forgetting, when a training begins, when a store is closed, and at most once a minute in
between.
"""

import hashlib
import json
import time
from contextlib import ExitStack, suppress
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
    """What a log held when it was last recorded.

    `arrived`, the greatest sequence number, and `forgettings`, how often a user was forgotten, never decrease. The
    number of `events`, None where not counted, never decreases without a forgetting.
    """

    arrived: int
    forgettings: int
    events: int | None


def has_events(layout: Layout, url: str | None = None) -> bool:
    """Whether a store has a log of events, or had one."""
    return url is not None or layout.events.exists() or checkpoint_path(layout).exists()


def open_event_log(layout: Layout, url: str | None = None) -> EventLog:
    """Open the log of a store, or another by its SQLAlchemy URL.

    Raises StoreError where the store's own is missing or holds less than was recorded.
    """
    if url is not None:
        return open_log(url)
    least = read_checkpoint(layout)
    is_new = not layout.events.exists()
    if is_new and least is not None and least.arrived:
        raise _damaged(layout, f"it is missing, and it held at least {amount(least)}")
    if is_new and not may_write(layout.events):
        raise StoreError(f"{layout.root} has no events, and none can be recorded: it may not be written")
    ahead = write_ahead_log(layout.events)
    with convert_read_errors(ahead):
        lost = lost_commits(ahead)
    if lost:
        raise _damaged(layout, f"{lost:,} commits in {ahead.name} lie behind a frame that is not what was written")
    log = open_log(layout.events)
    with ExitStack() as opened:
        opened.callback(log.close)
        if fault := shortfall(log, least):
            raise _damaged(layout, fault)
        opened.pop_all()
    if is_new:
        update_checkpoint(layout, log, wait_seconds=0)
    return log


def shortfall(log: EventLog, least: LogCheckpoint | None, *, count: bool = False) -> str | None:
    """Say what a log lacks of its checkpoint, None where nothing; with `count`, all events are counted."""
    if least is None:
        return None
    arrived, forgettings = log.arrived(), log.forgettings()
    if arrived < least.arrived or forgettings < least.forgettings:
        return f"its newest event is number {arrived:,}, and it held number {least.arrived:,}"
    if count and least.events is not None and forgettings == least.forgettings and len(log) < least.events:
        return f"it holds {len(log):,} events, and it held {least.events:,}"
    return None


def update_checkpoint(layout: Layout, log: EventLog, *, count: bool = True, wait_seconds: float = 10.0) -> None:
    """Record how much the store's own log holds. Failures are ignored: a later call writes it."""
    with suppress(StoreError), file_lock(layout.lock, wait_seconds):
        forgettings, arrived = log.forgettings(), log.arrived()
        before = read_checkpoint(layout)
        events = len(log) if count else before.events if before and before.forgettings == forgettings else None
        if count and log.forgettings() != forgettings:
            events = None  # counted before or after a concurrent forgetting
        now = LogCheckpoint(arrived, forgettings, events)
        if now != before:
            write_checkpoint(layout, now)


def write_checkpoint(layout: Layout, found: LogCheckpoint) -> None:
    """Record how much the log holds. Hold the commit lock."""
    write_atomically(checkpoint_path(layout), _as_bytes(found))


def read_checkpoint(layout: Layout, *, strict: bool = False) -> LogCheckpoint | None:
    """Return the checkpoint; None where there is none, or none that is valid, which with `strict` is an error."""
    path = checkpoint_path(layout)
    with convert_read_errors(path):
        try:
            written = path.read_bytes()
        except FileNotFoundError:
            return None
    with suppress(ValueError, KeyError, TypeError):
        record = json.loads(written)
        found = LogCheckpoint(int(record["arrived"]), int(record["forgettings"]), record["events"])
        if _as_bytes(found) == written:
            return found
    if strict:
        raise damaged_error(path, "it is not what was written")
    return None


class CheckpointWriter:
    """Updates the checkpoint while events are recorded, seldom enough not to slow that down."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._due = 0.0
        self._pending = False

    def after_append(self, log: EventLog) -> None:
        """Update the checkpoint if it is due."""
        self._pending = True
        if time.monotonic() >= self._due:
            self.finish(log)

    def finish(self, log: EventLog) -> None:
        """Update the checkpoint if events were recorded since the last time."""
        if self._pending:
            update_checkpoint(self._layout, log, count=False, wait_seconds=0)
            self._pending = False
            self._due = time.monotonic() + _SECONDS_BETWEEN


def checkpoint_path(layout: Layout) -> Path:
    """Path of the checkpoint of a store's log."""
    return layout.root / "events.json"


def amount(least: LogCheckpoint | None) -> str:
    """How many events a log held, for messages."""
    if least is None:
        return "an unknown number of events"
    return f"{least.arrived if least.events is None else least.events:,} events"


def _as_bytes(found: LogCheckpoint) -> bytes:
    signed = json.dumps(asdict(found), sort_keys=True)
    return json.dumps({**asdict(found), "digest": hashlib.sha256(signed.encode()).hexdigest()}).encode()


def _damaged(layout: Layout, what: str) -> DamagedError:
    advice = (
        f"restore it from a backup, or go on with what can be read of it: `mmrec repair {layout.root}`; see "
        f"`mmrec verify {layout.root}`"
    )
    return DamagedError(f"{layout.events} is damaged: {what}", advice)
