"""One transaction that writes to the log."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool
from sqlalchemy import Connection, delete, insert, select

from mmrec.behaviour.database.portable import insert_anywhere
from mmrec.behaviour.database.postgres import insert_into_postgres
from mmrec.behaviour.database.sqlite import insert_into_sqlite
from mmrec.behaviour.database.tables import EVENTS, REFUSED
from mmrec.behaviour.prepare import Prepared
from mmrec.behaviour.raw import Refusal

__all__ = ["LogWriter", "Stored"]

_INSERTS: Final = {"sqlite": insert_into_sqlite, "postgresql": insert_into_postgres}
_IDS_PER_QUERY: Final = 500
_CONTENT: Final = ("user", "item", "kind", "time", "value", "context")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of some prepared events.

    Attributes:
        added: Events that are new.
        known: Events that the log had already, or that came twice among these.
        clashes: Those whose own id belongs to another event; they are not taken.

    """

    added: int
    known: int
    clashes: tuple[Refusal, ...]


class LogWriter:
    """Writes within one transaction; nothing is there before it ends."""

    def __init__(self, connection: Connection) -> None:
        """Take a connection whose transaction has begun."""
        self._connection = connection

    def add(self, prepared: Prepared) -> Stored:
        """Add events whose id is new, in their order."""
        ids = prepared.events["id"].to_pylist()
        clashing = self._clashing(prepared, ids)
        fresh = prepared.events if not clashing.any() else prepared.events.filter(pa.array(~clashing))
        insert_here = _INSERTS.get(self._connection.dialect.name, insert_anywhere)
        unique = _first_of_each(fresh)
        added = insert_here(self._connection, unique) if unique.num_rows else 0
        clashes = tuple(
            Refusal(
                int(prepared.rows[place]),
                "id",
                "Another event has the same id: give each event an id of its own, or none.",
                prepared.events["user"][place].as_py(),
            )
            for place in np.flatnonzero(clashing).tolist()
        )
        return Stored(added, fresh.num_rows - added, clashes)

    def refuse(self, source: str, refused: Sequence[Refusal]) -> None:
        """Keep rows of a source that are no events."""
        if refused:
            now = time.time_ns() // 1000
            rows = [{**asdict(one), "source": source, "at": now} for one in refused]
            self._connection.execute(insert(REFUSED), rows)

    def clear_refused(self, source: str) -> None:
        """Drop what an earlier import refused of the same source."""
        self._connection.execute(delete(REFUSED).where(REFUSED.c.source == source))

    def _clashing(self, prepared: Prepared, ids: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which events have an id of their own that belongs to another event, in the log or before them here."""
        clashing = np.zeros(len(ids), dtype=bool)
        places = np.flatnonzero(prepared.named).tolist()
        if not places:
            return clashing
        seen = self._contents([ids[place] for place in places])
        named = prepared.events.take(pa.array(places))
        named = named.set_column(named.schema.get_field_index("time"), "time", named["time"].cast(pa.int64()))
        for place, row in zip(places, named.to_pylist(), strict=True):
            clashing[place] = seen.setdefault(row["id"], _content(row)) != _content(row)
        return clashing

    def _contents(self, ids: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
        found: dict[bytes, tuple[Any, ...]] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            asked = select(EVENTS).where(EVENTS.c.id.in_(ids[start : start + _IDS_PER_QUERY]))
            for row in self._connection.execute(asked).mappings():
                found[bytes(row["id"])] = _content(row)
        return found


def _content(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _CONTENT)


def _first_of_each(events: pa.Table) -> pa.Table:
    first: dict[bytes, int] = {}
    for place, name in enumerate(events["id"].to_pylist()):
        first.setdefault(name, place)
    return events if len(first) == events.num_rows else events.take(pa.array(first.values(), pa.int64()))
