"""The database of an event log: its tables, opening it through SQLAlchemy, and salvaging a damaged one."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import (
    BINARY,
    URL,
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    create_engine,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from mmrec.errors import StoreBusyError, StoreError, UsageError
from mmrec.events.dialects import connected, may_write, prepare_postgres, prepare_sqlite, queue_up, readers_of
from mmrec.storage.damage import damaged_error

FORMAT_VERSION: Final = 1

METADATA: Final = MetaData()

FORMAT: Final = Table("mmrec_events_format", METADATA, Column("version", Integer, primary_key=True))
"""One row: the version of these tables."""

EVENTS: Final = Table(
    "mmrec_events",
    METADATA,
    # The order of arrival; never used twice, even when the newest rows are forgotten.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("id", LargeBinary(16).with_variant(BINARY(16), "mysql", "mariadb"), nullable=False),
    Column("user", String(512), nullable=False),
    Column("item", String(512), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),  # microseconds since 1970 in UTC: the same number in every database
    Column("value", Double),
    Column("context", Text),
    sqlite_autoincrement=True,
)
"""The events, one a row."""

Index("mmrec_events_id", EVENTS.c.id, unique=True)
# A user's newest events are neighbours here, whatever the size of the log.
Index("mmrec_events_past", EVENTS.c.user, EVENTS.c.time, EVENTS.c.seq)

REFUSED: Final = Table(
    "mmrec_events_refused",
    METADATA,
    Column("source", String(1024), nullable=False, index=True),
    Column("row", BigInteger, nullable=False),
    Column("column", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("user", String(512), index=True),
    Column("count", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Rows of sources that are no events, with the reason of each."""

FORGOTTEN: Final = Table(
    "mmrec_events_forgotten",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""One row for each time that someone was forgotten, without whom: what was counted before is to be counted again."""


def open_database(place: str | Path) -> Engine:
    """Open the database of a log, the path of an SQLite file or any SQLAlchemy URL; missing tables are created.

    An SQLite file that this process may not write, as on a read-only file system, is opened for reading. Raises
    UsageError for an invalid URL or a missing driver, StoreError where the database cannot be reached or has another
    format.
    """
    url = _url(place)
    file = _file_of(url)
    read_only = file is not None and file.exists() and not may_write(file)
    try:
        engine = create_engine(url, creator=readers_of(file)) if file and read_only else create_engine(url)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        extra = "install mmrec[postgres]" if url.get_backend_name() == "postgresql" else "install it beside mmrec"
        raise UsageError(f"The driver of {url.drivername} is missing: {extra}.") from error
    if url.get_backend_name() == "sqlite":
        prepare_sqlite(engine, read_only=read_only)
    elif url.get_backend_name() == "postgresql":
        prepare_postgres(engine)
    try:
        with wrap_db_errors(engine), engine.begin() if read_only else writing(engine) as connection:
            if not read_only:
                METADATA.create_all(connection)
            found = list(connection.execute(select(FORMAT.c.version)).scalars())
            if not found and not read_only:
                connection.execute(insert(FORMAT), {"version": FORMAT_VERSION})
        _check_format(engine, found)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _check_format(engine: Engine, found: list[int]) -> None:
    if found and found != [FORMAT_VERSION]:
        raise StoreError(
            f"{shown(engine)} holds a log of format {found[0]}, this mmrec reads {FORMAT_VERSION}: export the events "
            "with the mmrec that wrote them, and import them into a new log."
        )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction: it waits for other writers, and is durable when the block has ended well."""
    with engine.execution_options(mmrec_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            queue_up(connection)
        yield connection


@contextmanager
def wrap_db_errors(engine: Engine) -> Iterator[None]:
    """Raise errors of the database as StoreError; acknowledged writes are kept."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(error, OperationalError) and "locked" in str(cause):
            raise StoreBusyError(f"Others keep {shown(engine)} busy: try again. Nothing was changed.") from error
        if isinstance(cause, sqlite3.DatabaseError) and not isinstance(error, OperationalError | IntegrityError):
            raise damaged_error(Path(str(engine.url.database)), _reason(error)) from error
        raise StoreError(f"{shown(engine)} cannot be used: {_reason(error)}. What was acknowledged is kept.") from error


def shown(engine: Engine) -> str:
    """The URL of the database without its password."""
    return engine.url.render_as_string(hide_password=True)


def _reason(error: SQLAlchemyError) -> str:
    cause: object = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _file_of(url: URL) -> Path | None:
    """The SQLite file of a log, None for another database or one in memory."""
    inside = url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"} and not url.query
    return Path(str(url.database)) if inside else None


def _url(place: str | Path) -> URL:
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise UsageError(
            "The database of events is not a URL that can be read: write it as "
            "postgresql://user@host/database, or give the path of an SQLite file."
        ) from error
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgresql", "postgres"} else url


_IDS_PER_QUERY: Final = 500
_ATTEMPTS: Final = 8


def insert_portable(connection: Connection, events: pa.Table) -> int:
    """Insert the events whose id is new, in their order. Returns how many were."""
    rows = events.set_column(events.schema.get_field_index("time"), "time", events["time"].cast(pa.int64())).to_pylist()
    for attempt in range(_ATTEMPTS):
        known = {bytes(row["id"]) for row in rows_of_ids(connection, [row["id"] for row in rows], EVENTS.c.id)}
        fresh = [row for row in rows if row["id"] not in known]
        try:
            with connection.begin_nested():
                if fresh:
                    connection.execute(insert(EVENTS), fresh)
        except IntegrityError:  # another writer was faster with some of them
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return len(fresh)
    return 0


def rows_of_ids(connection: Connection, ids: Sequence[bytes], *columns: Any) -> Iterator[RowMapping]:
    """The events of these ids that the log has."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        statement = select(*columns).where(EVENTS.c.id.in_(ids[start : start + _IDS_PER_QUERY]))
        yield from connection.execute(statement).mappings()


_ROWS_AT_ONCE: Final = 10_000


def salvage_sqlite(source: Path, target: Path, arrived: int = 0) -> int:
    """Copy every readable row into a new log. Returns the number of events saved.

    Rows are read from both ends up to the damage. Events keep their sequence numbers; new ones get greater numbers than
    any of the old log, or than `arrived`.
    """
    open_database(target).dispose()
    saved = 0
    with closing(connected(target, "mode=rw")) as new:
        # A file of which nothing can be read leaves an empty log.
        with suppress(sqlite3.DatabaseError), closing(connected(source, "mode=rw")) as old:
            old.text_factory = lambda data: data.decode("utf-8", "replace")
            for table in (FORGOTTEN, REFUSED, EVENTS):
                names = [column.name for column in table.columns]
                saved = _copy(old, new, table.name, names)
            with suppress(sqlite3.DatabaseError):
                given = old.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (EVENTS.name,)).fetchone()
                arrived = max(arrived, given[0] or 0)
        new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (EVENTS.name,))
        newest = new.execute(f"SELECT coalesce(max(seq), 0) FROM {EVENTS.name}").fetchone()[0]  # noqa: S608
        new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (EVENTS.name, max(arrived, newest)))
        new.commit()
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return saved


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, names: list[str]) -> int:
    columns = ", ".join(f'"{name}"' for name in names)
    fill = f"INSERT OR IGNORE INTO {table} (rowid, {columns}) VALUES ({', '.join('?' * (len(names) + 1))})"  # noqa: S608
    count = 0
    for row in chain(_rows(old, table, columns, "ASC"), _rows(old, table, columns, "DESC")):
        with suppress(sqlite3.DatabaseError):  # an invalid row
            count += max(0, new.execute(fill, row).rowcount)
        if count % _ROWS_AT_ONCE == 0:
            new.commit()
    new.commit()
    return count


def _rows(old: sqlite3.Connection, table: str, columns: str, order: str) -> Iterator[Any]:
    """Rows from one end, up to the first that cannot be read."""
    try:
        yield from old.execute(f"SELECT rowid, {columns} FROM {table} NOT INDEXED ORDER BY rowid {order}")  # noqa: S608
    except sqlite3.DatabaseError:
        return
