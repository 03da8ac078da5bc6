"""What the log says to SQLite its own way."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
from sqlalchemy import Connection, Engine, event

from mmrec.behaviour.database.write_ahead import lost_commits

__all__ = [
    "connected",
    "erase_traces",
    "faults_of_sqlite",
    "insert_into_sqlite",
    "may_write",
    "prepare_sqlite",
    "readers_of",
    "write_ahead_log",
]

_PATIENCE_MS: Final = 120_000
_CACHE_KIB: Final = 65_536
# 64 MiB of pages: an import changes the same pages of the indexes again and again before they are copied home.
_CHECKPOINT_PAGES: Final = 16_384

_INSERT: Final = (
    'INSERT INTO mmrec_events (id, "user", item, kind, time, value, context) VALUES (?, ?, ?, ?, ?, ?, ?) '
    "ON CONFLICT (id) DO NOTHING"
)


_MOST_FAULTS: Final = 5


def prepare_sqlite(engine: Engine, *, read_only: bool = False) -> None:
    """Make every connection durable, patient and forgetful, and let writers queue up at their beginning."""
    event.listen(engine, "connect", _on_connect_to_read if read_only else _on_connect)
    event.listen(engine, "begin", _on_begin)


def write_ahead_log(path: Path) -> Path:
    """Where SQLite keeps what is committed and not yet copied into the database file."""
    return path.with_name(f"{path.name}-wal")


def may_write(path: Path) -> bool:
    """Whether this process may write a database file, and the files that SQLite keeps beside it."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def readers_of(path: Path) -> Callable[[], sqlite3.Connection]:
    """Return what connects to a database that cannot be written, as on a read-only file system.

    Where SQLite could read its write-ahead log only by writing beside it, both are read from a copy, which is there as
    long as what is returned.
    """
    log = write_ahead_log(path)
    if not (log.exists() and log.stat().st_size):
        return lambda: connected(path, "immutable=1")
    try:
        with closing(connected(path, "mode=ro")) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        folder = tempfile.TemporaryDirectory(prefix="mmrec-events-")
        copy = Path(folder.name) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(log, write_ahead_log(copy))

        def connect(kept: tempfile.TemporaryDirectory[str] = folder) -> sqlite3.Connection:
            return connected(Path(kept.name) / path.name, "mode=rw")

        return connect
    return lambda: connected(path, "mode=ro")


def faults_of_sqlite(path: Path) -> list[str]:
    """Say what is wrong with a database file: every page, index and reference is read. Nothing is changed."""
    log = write_ahead_log(path)
    lost = lost_commits(log)
    if lost:
        return [f"{log.name} is damaged: {lost:,} commits lie behind a frame that is not what was written"]
    connect = readers_of(path) if not may_write(path) else lambda: connected(path, "mode=rw")
    try:
        with closing(connect()) as connection:
            found = connection.execute(f"PRAGMA integrity_check({_MOST_FAULTS})").fetchall()
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    faults = [str(one) for (one,) in found if one != "ok"]
    return faults + ([f"{len(broken):,} rows refer to rows that are not there"] if broken else [])


def connected(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a database file in a mode of SQLite's, such as ``mode=ro``."""
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True, check_same_thread=False)


def insert_into_sqlite(connection: Connection, events: pa.Table) -> int:
    """Insert the events whose id is new, in their order. Returns how many were."""
    columns = [events[name].to_pylist() for name in ("id", "user", "item", "kind")]
    columns += [events["time"].cast(pa.int64()).to_pylist(), events["value"].to_pylist(), events["context"].to_pylist()]
    return connection.exec_driver_sql(_INSERT, list(zip(*columns, strict=True))).rowcount


def erase_traces(engine: Engine) -> None:
    """Copy the write-ahead log home and empty it: until then it may hold what was deleted.

    What a reader still needs of it stays until the next time.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    connection.isolation_level = None  # else the driver begins transactions itself, and too late to queue up
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a commit returns when the disk has it
    cursor.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    cursor.close()


def _on_connect_to_read(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    cursor.execute("PRAGMA query_only = ON")
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A reader that turns writer later would fail where another writer came between.
    writes = connection.get_execution_options().get("mmrec_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
