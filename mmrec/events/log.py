"""The event log: append, read and forget events, one transaction per write; refused rows of imports."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool
from sqlalchemy import Connection, Engine, Executable, Select, delete, func, insert, select, text

from mmrec.errors import UsageError
from mmrec.events.database import (
    EVENTS,
    FORGOTTEN,
    REFUSED,
    insert_portable,
    open_database,
    rows_of_ids,
    wrap_db_errors,
    writing,
)
from mmrec.events.dialects import erase_traces, insert_into_postgres, insert_into_sqlite
from mmrec.events.event import SCHEMA, Event, RefusedRow
from mmrec.events.kinds import Kinds
from mmrec.events.prepare import PreparedEvents, prepare_events

_INSERTS: Final = {"sqlite": insert_into_sqlite, "postgresql": insert_into_postgres}
_CONTENT: Final = ("user", "item", "kind", "time", "value", "context")


@dataclass(frozen=True, slots=True)
class Stored:
    """Result of adding events: `clashes` are those whose own id belongs to another event, and are not added."""

    added: int
    known: int
    clashes: tuple[RefusedRow, ...]


class LogWriter:
    """Writes within one transaction; nothing is visible before it ends."""

    def __init__(self, connection: Connection) -> None:
        """Wrap a connection with an open transaction."""
        self._connection = connection

    def add(self, prepared: PreparedEvents) -> Stored:
        """Add the events whose id is new, in their order."""
        ids = prepared.events["id"].to_pylist()
        clashing = self._clashing(prepared, ids)
        fresh = prepared.events if not clashing.any() else prepared.events.filter(pa.array(~clashing))
        insert_here = _INSERTS.get(self._connection.dialect.name, insert_portable)
        unique = _first_of_each(fresh)
        added = insert_here(self._connection, unique) if unique.num_rows else 0
        clashes = tuple(
            RefusedRow(
                int(prepared.rows[place]),
                "id",
                "Another event has the same id: give each event an id of its own, or none.",
                prepared.events["user"][place].as_py(),
            )
            for place in np.flatnonzero(clashing).tolist()
        )
        return Stored(added, fresh.num_rows - added, clashes)

    def refuse(self, source: str, refused: Sequence[RefusedRow]) -> None:
        """Keep rows of a source that are no events."""
        now = time.time_ns() // 1000
        if rows := [{**asdict(one), "source": source, "at": now} for one in refused]:
            self._connection.execute(insert(REFUSED), rows)

    def clear_refused(self, source: str) -> None:
        """Drop the rows that an earlier import of the same source refused."""
        self._connection.execute(delete(REFUSED).where(REFUSED.c.source == source))

    def _clashing(self, prepared: PreparedEvents, ids: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which events have an own id that belongs to another event, in the log or before them here."""
        clashing = np.zeros(len(ids), dtype=bool)
        places = np.flatnonzero(prepared.named).tolist()
        if not places:
            return clashing
        stored = rows_of_ids(self._connection, [ids[place] for place in places], EVENTS)
        seen = {bytes(row["id"]): _content(row) for row in stored}
        named = prepared.events.take(pa.array(places))
        named = named.set_column(named.schema.get_field_index("time"), "time", named["time"].cast(pa.int64()))
        for place, row in zip(places, named.to_pylist(), strict=True):
            clashing[place] = seen.setdefault(row["id"], _content(row)) != _content(row)
        return clashing


def _content(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _CONTENT)


def _first_of_each(events: pa.Table) -> pa.Table:
    first: dict[bytes, int] = {}
    for place, name in enumerate(events["id"].to_pylist()):
        first.setdefault(name, place)
    return events if len(first) == events.num_rows else events.take(pa.array(first.values(), pa.int64()))


LOG_SCHEMA: Final = pa.schema([pa.field("seq", pa.int64(), nullable=False), *SCHEMA])
"""Columns of events as they lie in the log: their number of arrival first."""

_ROWS_PER_BATCH: Final = 65_536


@dataclass(frozen=True, slots=True)
class Appended:
    """Result of recording events.

    Attributes:
        added: New events, durable now.
        known: Events that the log had already.
        unknown_items: Ids of items that the store does not have, each once, in order; their events count once it has
            them. Always empty where events are recorded without a store.

    """

    added: int
    known: int
    unknown_items: tuple[str, ...] = ()


def open_log(place: str | Path) -> "EventLog":
    """Open a log, created if missing: the path of an SQLite file, or any SQLAlchemy URL; see `open_database`."""
    return EventLog(open_database(place))


class EventLog:
    """An open log. Safe to use from several threads; other processes may read and write it at the same time.

    Events are never changed. Each gets a sequence number; later ones have greater numbers, also across processes.
    """

    def __init__(self, engine: Engine) -> None:
        """Wrap an opened database."""
        self._engine = engine

    def append(self, events: Sequence[Event], kinds: Kinds | None = None) -> Appended:
        """Record events, all or none; they are durable when this returns.

        Raises UsageError where one is invalid, its kind has no weight, or its id belongs to another event.
        """
        prepared = prepare_events(events, Kinds() if kinds is None else kinds)
        with self.writing() as writer:
            stored = writer.add(prepared)
            if stored.clashes:
                raise UsageError(f"Event {stored.clashes[0].row}: {stored.clashes[0].reason} No event was recorded.")
        return Appended(stored.added, stored.known)

    @contextmanager
    def writing(self) -> Iterator[LogWriter]:
        """One transaction: durable when the block has ended, undone if it raised."""
        with wrap_db_errors(self._engine), writing(self._engine) as connection:
            yield LogWriter(connection)

    def history(self, user: str, limit: int | None = None) -> pa.Table:
        """Read the events of a user, or the newest `limit`: newest last, ties in order of arrival."""
        newest_first = select(EVENTS).where(EVENTS.c.user == user).order_by(EVENTS.c.time.desc(), EVENTS.c.seq.desc())
        batches = list(self._read(newest_first.limit(limit)))
        table = pa.Table.from_batches(batches, LOG_SCHEMA)
        return table.take(pa.array(range(table.num_rows - 1, -1, -1), pa.int64()))

    def scan(self, after: int = 0) -> Iterator[pa.RecordBatch]:
        """Read all events after a sequence number, in order of arrival, in batches."""
        yield from self._read(select(EVENTS).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq))

    def newest(self) -> int:
        """Return the greatest sequence number of any event, 0 in an empty log."""
        return int(self._one(select(func.max(EVENTS.c.seq))) or 0)

    def forgettings(self) -> int:
        """Return how often a user was forgotten; sums over the log made before are outdated then."""
        return int(self._one(select(func.max(FORGOTTEN.c.seq))) or 0)

    def arrived(self) -> int:
        """Return the greatest sequence number ever assigned; unlike `newest`, forgetting never lowers it."""
        if self._engine.dialect.name != "sqlite":
            return self.newest()
        given = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :name")
        return int(self._one(given.bindparams(name=EVENTS.name)))

    def __len__(self) -> int:
        """Number of events."""
        return int(self._one(select(func.count()).select_from(EVENTS)))

    def refused(self) -> list[tuple[str, RefusedRow]]:
        """Return the rows that imports refused, each with its source, in order."""
        columns = [REFUSED.c[name] for name in ("source", "row", "column", "reason", "user", "count")]
        statement = select(*columns).order_by(REFUSED.c.source, REFUSED.c.row)
        return [(source, RefusedRow(*refused)) for source, *refused in self.query(statement)]

    def forget(self, user: str) -> int:
        """Delete all events and refused rows of a user, at once. Returns the number of events deleted.

        SQLite leaves nothing in its files, unless a reader holds an old snapshot. PostgreSQL overwrites deleted rows at
        its next vacuum. Exported files and trained models are not reached.
        """
        with wrap_db_errors(self._engine):
            with writing(self._engine) as connection:
                gone = connection.execute(delete(EVENTS).where(EVENTS.c.user == user)).rowcount
                connection.execute(delete(REFUSED).where(REFUSED.c.user == user))
                connection.execute(insert(FORGOTTEN), {"at": time.time_ns() // 1000})
            if self._engine.dialect.name == "sqlite":
                erase_traces(self._engine)
        return int(gone)

    def query(self, statement: Select[Any]) -> Iterator[Any]:
        """Read rows of a statement on the tables of `mmrec.events.database`, a bounded number in memory."""
        for rows in self._partitions(statement):
            yield from rows

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _one(self, statement: Executable) -> Any:  # noqa: ANN401 - of the statement's type
        with wrap_db_errors(self._engine), self._engine.connect() as connection:
            return connection.execute(statement).scalar_one()

    def _partitions(self, statement: Select[Any]) -> Iterator[Sequence[Any]]:
        with wrap_db_errors(self._engine), self._engine.connect().execution_options(stream_results=True) as connection:
            yield from connection.execute(statement).partitions(_ROWS_PER_BATCH)

    def _read(self, statement: Select[Any]) -> Iterator[pa.RecordBatch]:
        for rows in self._partitions(statement):
            columns = zip(zip(*rows, strict=True), LOG_SCHEMA, strict=True)
            yield pa.record_batch([pa.array(values, field.type) for values, field in columns], schema=LOG_SCHEMA)
