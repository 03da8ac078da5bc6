"""What can still be read of a damaged SQLite file, in a new one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

from mmrec.events.database.dialects import connected
from mmrec.events.database.open import open_database
from mmrec.events.database.tables import EVENTS, FORGOTTEN, REFUSED

__all__ = ["salvage_sqlite"]

_ROWS_AT_ONCE: Final = 10_000


def salvage_sqlite(source: Path, target: Path, arrived: int = 0) -> int:
    """Copy every row that can be read into a new log. Returns the number of events saved.

    Rows are read from both ends up to what is damaged. Events keep their numbers of arrival, and later ones get greater
    numbers than any of the old log, or than `arrived`.
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
        with suppress(sqlite3.DatabaseError):  # a row that is none any more
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
