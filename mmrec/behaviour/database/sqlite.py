"""What the log says to SQLite its own way."""

from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection, Engine, event

__all__ = ["erase_traces", "insert_into_sqlite", "prepare_sqlite"]

_PATIENCE_MS: Final = 120_000
_CACHE_KIB: Final = 65_536
# 64 MiB of pages: an import changes the same pages of the indexes again and again before they are copied home.
_CHECKPOINT_PAGES: Final = 16_384

_INSERT: Final = (
    'INSERT INTO mmrec_events (id, "user", item, kind, time, value, context) VALUES (?, ?, ?, ?, ?, ?, ?) '
    "ON CONFLICT (id) DO NOTHING"
)


def prepare_sqlite(engine: Engine) -> None:
    """Make every connection durable, patient and forgetful, and let writers queue up at their beginning."""
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)


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


def _on_begin(connection: Connection) -> None:
    # A reader that turns writer later would fail where another writer came between.
    writes = connection.get_execution_options().get("mmrec_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
