"""Open the database of an event log through SQLAlchemy, and insert in SQL that every database speaks."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
from sqlalchemy import URL, Connection, Engine, create_engine, insert, make_url, select
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from mmrec.errors import StoreBusyError, StoreError, UsageError
from mmrec.events.database.dialects import may_write, prepare_postgres, prepare_sqlite, queue_up, readers_of
from mmrec.events.database.tables import EVENTS, FORMAT, FORMAT_VERSION, METADATA
from mmrec.storage.damage import damaged

__all__ = ["insert_anywhere", "open_database", "wrap_db_errors", "writing"]


def open_database(place: str | Path) -> Engine:
    """Open the database of a log, and make its tables where there are none.

    An SQLite file that this process may not write, as on a read-only file system, is opened to be read.

    Args:
        place: The path of an SQLite file, or any SQLAlchemy URL.

    Raises:
        UsageError: The URL is none, or its driver is not installed.
        StoreError: The database cannot be reached, or holds a log of another format.

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
    """A transaction that writes: it waits for others that do, and is durable when the block has ended well."""
    with engine.execution_options(mmrec_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            queue_up(connection)
        yield connection


@contextmanager
def wrap_db_errors(engine: Engine) -> Iterator[None]:
    """Say what went wrong in the database as a StoreError; what was acknowledged before is kept."""
    try:
        yield
    except OperationalError as error:
        if "locked" in str(error.orig):
            raise StoreBusyError(f"Others keep {shown(engine)} busy: try again. Nothing was changed.") from error
        raise StoreError(f"{shown(engine)} cannot be used: {_reason(error)}. What was acknowledged is kept.") from error
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and not isinstance(error, IntegrityError):
            raise damaged(Path(str(engine.url.database)), _reason(error)) from error
        raise StoreError(f"{shown(engine)} cannot be used: {_reason(error)}. What was acknowledged is kept.") from error
    except SQLAlchemyError as error:
        raise StoreError(f"{shown(engine)} cannot be used: {_reason(error)}. What was acknowledged is kept.") from error


def shown(engine: Engine) -> str:
    """Name the database without its password."""
    return engine.url.render_as_string(hide_password=True)


def _reason(error: SQLAlchemyError) -> str:
    cause: object = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _file_of(url: URL) -> Path | None:
    """The SQLite file of a log, None where it is another database or in memory."""
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


def insert_anywhere(connection: Connection, events: pa.Table) -> int:
    """Insert the events whose id is new, in their order. Returns how many were."""
    rows = events.set_column(events.schema.get_field_index("time"), "time", events["time"].cast(pa.int64())).to_pylist()
    for attempt in range(_ATTEMPTS):
        known = _known(connection, [row["id"] for row in rows])
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


def _known(connection: Connection, ids: list[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for start in range(0, len(ids), _IDS_PER_QUERY):
        asked = select(EVENTS.c.id).where(EVENTS.c.id.in_(ids[start : start + _IDS_PER_QUERY]))
        found.update(bytes(one) for (one,) in connection.execute(asked))
    return found
