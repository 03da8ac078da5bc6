"""Inserting in SQL that every database speaks, where it has no faster way of its own here."""

from typing import Final

import pyarrow as pa
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from mmrec.behaviour.database.tables import EVENTS

__all__ = ["insert_anywhere"]

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
