"""What a person did to an item, and the columns that many such events have."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

__all__ = ["SCHEMA", "Event"]

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("user", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("context", pa.string()),
    ]
)
"""Columns of events, as the log takes and gives them; the context is a JSON object with sorted keys."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that one person did.

    Attributes:
        user: Who; up to 512 bytes.
        item: To what, an item's id; the item need not be in the store yet.
        kind: What: ``view``, ``like``, ``hide`` and so on, see `mmrec.behaviour.kinds`.
        time: When, with a time zone.
        value: A number that belongs to it, such as stars or seconds watched.
        context: Anything else worth keeping, such as the page or the device.
        id: Its own id. An event with an id that the log has already is not taken twice; without one, the id is derived
            from all the rest, so that the very same event is not taken twice either.

    """

    user: str
    item: str
    kind: str
    time: datetime
    value: float | None = None
    context: Mapping[str, object] | None = None
    id: str | None = None
