"""What SQLite and PostgreSQL need for an event log beyond portable SQL."""

import io
import os
import shutil
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from jaxtyping import Bool, UInt8, UInt32
from sqlalchemy import Connection, Engine, event

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER_BYTES: Final = 24
_MAGIC: Final = 0x377F0682
_FRAMES_AT_ONCE: Final = 1024
_READINGS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_SMALLEST_PAGE, _LARGEST_PAGE = 512, 65_536


def lost_commits(path: Path) -> int:
    """Return how many commits of a write-ahead log lie behind a damaged frame, where SQLite does not read them.

    A commit that ends in the damaged frame itself does not count: a power cut during an unacknowledged write leaves the
    same. A missing log counts as 0. A log that is being written can look damaged, so it is read several times.
    """
    lost = 0
    for _ in range(_READINGS):
        try:
            lost = _lost_now(path)
        except FileNotFoundError:
            return 0
        if not lost:
            return 0
        time.sleep(_PAUSE_SECONDS)
    return lost


def _lost_now(path: Path) -> int:
    with path.open("rb") as file:
        begin = file.read(_HEADER.size)
        if len(begin) < _HEADER.size:
            return 0
        magic, _, page, _, salt_1, salt_2, *seed = _HEADER.unpack(begin)
        if magic not in {_MAGIC, _MAGIC + 1} or not _SMALLEST_PAGE <= page <= _LARGEST_PAGE or page & (page - 1):
            return int(bool(file.read(1)))
        order = ">u4" if magic & 1 else "<u4"
        head = np.frombuffer(begin[:24], dtype=np.uint8)[None]
        first = _checksums(head, np.zeros((1, 2), dtype=np.uint32), order)[0]
        if first.tolist() != seed:
            return int(bool(file.read(1)))
        damaged, lost = False, 0
        last = np.array([seed], dtype=np.uint32)
        size = _FRAME_HEADER_BYTES + page
        while len(frames := file.read(size * _FRAMES_AT_ONCE)) >= size:
            raw = np.frombuffer(frames, dtype=np.uint8)[: len(frames) // size * size].reshape(-1, size)
            words = raw[:, :_FRAME_HEADER_BYTES].copy().view(">u4").astype(np.uint32)
            # Frames of other salts are left from before the log was begun anew.
            ours: Bool[np.ndarray, " n"] = (words[:, 2] == salt_1) & (words[:, 3] == salt_2)
            covered = np.concatenate([raw[:, :8], raw[:, _FRAME_HEADER_BYTES:]], axis=1)
            sums = _checksums(covered, np.concatenate([last, words[:-1, 4:6]]), order)
            good = ours & (sums == words[:, 4:6]).all(axis=1)
            behind = 0 if damaged else len(good) if good.all() else int(np.argmin(good)) + 1
            lost += int((ours & (words[:, 1] > 0))[behind:].sum())
            damaged |= not good.all()
            last = words[-1:, 4:6]
    return lost


def _checksums(data: UInt8[np.ndarray, "n bytes"], seeds: UInt32[np.ndarray, "n 2"], order: str) -> np.ndarray:
    """SQLite's checksum of each row, begun from its seed: s0 += x0 + s1, s1 += x1 + s0 for each two words."""
    words = np.ascontiguousarray(data).view(order).astype(np.uint32)
    factors, power = _factors(words.shape[1] // 2)
    sums = np.stack([(words * factor).sum(axis=1, dtype=np.uint32) for factor in factors], axis=1)
    begun = np.stack([(seeds * row).sum(axis=1, dtype=np.uint32) for row in power], axis=1)
    return sums + begun


def _factors(steps: int) -> tuple[UInt32[np.ndarray, "2 words"], UInt32[np.ndarray, "2 2"]]:
    """Coefficients of each word, and of the two halves of the seed, in both sums after some steps.

    With a sum a s0 + b s1 after a step, it is a (s0 + x0 + s1) + b (s1 + x1 + s0 + x0 + s1) before it.
    """
    factors = np.zeros((2, 2 * steps), dtype=np.uint32)
    row_0, row_1 = (1, 0), (0, 1)  # what a state of now counts at the end
    for step in range(steps - 1, -1, -1):
        for sum_, (a, b) in enumerate((row_0, row_1)):
            factors[sum_, 2 * step : 2 * step + 2] = (a + b) % 2**32, b
        row_0, row_1 = _before(row_0), _before(row_1)
    return factors, np.array([row_0, row_1], dtype=np.uint32)


def _before(row: tuple[int, int]) -> tuple[int, int]:
    """What the state before one step counts, where the state after it counts `row`."""
    a, b = row
    return (a + b) % 2**32, (a + 2 * b) % 2**32


# Any number that no one else is likely to lock.
_LOCK: Final = 0x6D6D7265

_STAGE: Final = (
    'CREATE TEMPORARY TABLE IF NOT EXISTS mmrec_staged (place bigint, id bytea, "user" text, item text, kind text,'
    " time bigint, value double precision, context text) ON COMMIT DELETE ROWS"
)
_COPY: Final = "COPY mmrec_staged FROM STDIN (FORMAT csv)"
_POSTGRES_INSERT: Final = (
    'INSERT INTO mmrec_events (id, "user", item, kind, time, value, context) '
    'SELECT id, "user", item, kind, time, value, context FROM mmrec_staged ORDER BY place ON CONFLICT (id) DO NOTHING'
)


def prepare_postgres(engine: Engine) -> None:
    """Make every connection durable: a commit returns when the disk has it, whatever the server's default."""
    event.listen(engine, "connect", _on_postgres_connect)


def queue_up(connection: Connection) -> None:
    """Let one writer at a time go on, until its transaction ends.

    Sequence numbers then become visible in order: who has read up to one number misses nothing below it.
    """
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def insert_into_postgres(connection: Connection, events: pa.Table) -> int:
    """Insert the events whose id is new, in their order. Returns how many were."""
    connection.exec_driver_sql(_STAGE)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            copy.write(_as_csv(events))
        cursor.execute(_POSTGRES_INSERT)
        added = int(cursor.rowcount)
        cursor.execute("DELETE FROM mmrec_staged")
    return added


def _as_csv(events: pa.Table) -> bytes:
    """Format rows for PostgreSQL: texts in quotes, nulls as nothing at all."""
    hexed = pa.array(["\\x" + value.hex() for value in events["id"].to_pylist()], pa.string())
    # Written by Python, which spells every float so that it reads back the same.
    values = pa.array([None if value is None else repr(value) for value in events["value"].to_pylist()], pa.string())
    spelled = events.set_column(events.schema.get_field_index("id"), "id", hexed)
    spelled = spelled.set_column(spelled.schema.get_field_index("value"), "value", pc.cast(values, pa.string()))
    spelled = spelled.set_column(spelled.schema.get_field_index("time"), "time", events["time"].cast(pa.int64()))
    spelled = spelled.add_column(0, "place", pa.array(range(events.num_rows)))
    out = io.BytesIO()
    pv.write_csv(spelled, out, pv.WriteOptions(include_header=False))
    return out.getvalue()


def _on_postgres_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION synchronous_commit = on")
    connection.commit()


_PATIENCE_MS: Final = 120_000
_CACHE_KIB: Final = 65_536
# 64 MiB of pages: an import changes the same pages of the indexes again and again before they are copied home.
_CHECKPOINT_PAGES: Final = 16_384

_SQLITE_INSERT: Final = (
    'INSERT INTO mmrec_events (id, "user", item, kind, time, value, context) VALUES (?, ?, ?, ?, ?, ?, ?) '
    "ON CONFLICT (id) DO NOTHING"
)


_MOST_FAULTS: Final = 5


def prepare_sqlite(engine: Engine, *, read_only: bool = False) -> None:
    """Set WAL, synchronous writes, busy timeout and secure_delete on each connection; writers queue at their begin."""
    event.listen(engine, "connect", _on_connect_to_read if read_only else _on_sqlite_connect)
    event.listen(engine, "begin", _on_begin)


def write_ahead_log(path: Path) -> Path:
    """Path of SQLite's write-ahead log beside a database file."""
    return path.with_name(f"{path.name}-wal")


def may_write(path: Path) -> bool:
    """Whether this process may write a database file, and the files that SQLite keeps beside it."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def readers_of(path: Path) -> Callable[[], sqlite3.Connection]:
    """Return a function that connects to a database that cannot be written, as on a read-only file system.

    Where SQLite could read its write-ahead log only by writing beside it, both are read from a copy, which lives as
    long as the function.
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
    """Return the faults of a database file: every page, index and reference is read. Nothing is changed."""
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
    return connection.exec_driver_sql(_SQLITE_INSERT, list(zip(*columns, strict=True))).rowcount


def erase_traces(engine: Engine) -> None:
    """Checkpoint and empty the write-ahead log, which may hold deleted rows; readers may delay that."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _on_sqlite_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    cursor = _patient_cursor(connection)
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a commit returns when the disk has it
    cursor.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    cursor.close()


def _on_connect_to_read(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    cursor = _patient_cursor(connection)
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _patient_cursor(connection: Any) -> Any:  # noqa: ANN401 - whatever the driver calls them
    connection.isolation_level = None  # else the driver begins transactions itself, and too late to queue up
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return cursor


def _on_begin(connection: Connection) -> None:
    # A reader that turns writer later would fail where another writer came between.
    writes = connection.get_execution_options().get("mmrec_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
