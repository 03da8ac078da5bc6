"""What the log says to PostgreSQL its own way."""

import io
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from sqlalchemy import Connection, Engine, event

__all__ = ["insert_into_postgres", "prepare_postgres", "queue_up"]

# Any number that no one else is likely to lock.
_LOCK: Final = 0x6D6D7265

_STAGE: Final = (
    'CREATE TEMPORARY TABLE IF NOT EXISTS mmrec_staged (place bigint, id bytea, "user" text, item text, kind text,'
    " time bigint, value double precision, context text) ON COMMIT DELETE ROWS"
)
_COPY: Final = "COPY mmrec_staged FROM STDIN (FORMAT csv)"
_INSERT: Final = (
    'INSERT INTO mmrec_events (id, "user", item, kind, time, value, context) '
    'SELECT id, "user", item, kind, time, value, context FROM mmrec_staged ORDER BY place ON CONFLICT (id) DO NOTHING'
)


def prepare_postgres(engine: Engine) -> None:
    """Make every connection durable: a commit returns when the disk has it, whatever the server's default."""
    event.listen(engine, "connect", _on_connect)


def queue_up(connection: Connection) -> None:
    """Let one writer at a time go on, until its transaction ends.

    Numbers of arrival are then seen in their order: who has read up to one number misses nothing below it.
    """
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def insert_into_postgres(connection: Connection, events: pa.Table) -> int:
    """Insert the events whose id is new, in their order. Returns how many were."""
    connection.exec_driver_sql(_STAGE)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            copy.write(_as_csv(events))
        cursor.execute(_INSERT)
        added = int(cursor.rowcount)
        cursor.execute("DELETE FROM mmrec_staged")
    return added


def _as_csv(events: pa.Table) -> bytes:
    """Spell rows as PostgreSQL reads them: texts in quotes, nulls as nothing at all."""
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


def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - whatever the driver calls its connection
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION synchronous_commit = on")
    connection.commit()
