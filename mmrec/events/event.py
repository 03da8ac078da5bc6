"""An event (user, item, kind, time, value), and which columns of a file hold its parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa

from mmrec.errors import UsageError

__all__ = ["SCHEMA", "Event", "EventColumns", "check_event_columns", "guess_event_columns"]


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
        kind: What: ``view``, ``like``, ``hide`` and so on, see `mmrec.events.kinds`.
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


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "user": ("user", "user_id", "userid", "customer_id", "person", "visitor_id", "visitorid", "session_id"),
    "item": ("item", "item_id", "itemid", "movie_id", "product_id", "article_id", "video_id", "track_id"),
    "time": ("time", "timestamp", "ts", "datetime", "event_time", "created_at", "date"),
    "kind": ("kind", "event", "event_type", "action", "type", "behavior", "behaviour"),
    "value": ("value", "rating", "score", "stars"),
    "id": ("event_id", "id"),
}

_MOST_LISTED: Final = 30


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Columns by their part in an event.

    Attributes:
        user: Who.
        item: To what.
        time: When.
        kind: What; None where all events are of one kind.
        value: A number.
        context: Anything else; one column of JSON objects is the context itself, others are named entries of it.
        id: The events' own ids.
        one_kind: The kind of all events where no column says it.

    """

    user: str
    item: str
    time: str
    kind: str | None = None
    value: str | None = None
    context: tuple[str, ...] = ()
    id: str | None = None
    one_kind: str = "view"

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, once."""
        named = (self.user, self.item, self.time, self.kind, self.value, self.id, *self.context)
        return tuple(dict.fromkeys(name for name in named if name is not None))


def check_event_columns(columns: EventColumns, known: Sequence[str]) -> None:
    """Raise UsageError where the source lacks a column, or one is user, item and time at once."""
    missing = [name for name in columns.names if name not in known]
    if missing:
        raise UsageError(f"The file has no column {missing[0]!r}. It has {_listed(known)}.")
    if len({columns.user, columns.item, columns.time}) < 3:
        raise UsageError("User, item and time must be three columns: name them with --user, --item and --time.")


def guess_event_columns(known: Sequence[str], given: Mapping[str, str | None]) -> EventColumns:
    """Name the columns of a source by what such columns are usually called; what is given is not guessed.

    A source without a column of kinds has events of one kind: ``rate`` where it has a column of ratings, else ``view``.
    Raises UsageError where user, item or time cannot be told, or two columns are called alike.
    """
    found: dict[str, str | None] = {}
    for part, usual in _NAMES.items():
        found[part] = given.get(part) or _first(known, usual, {v for v in found.values() if v})
    missing = [part for part in ("user", "item", "time") if found[part] is None]
    if missing:
        options = " ".join(f"--{part} COL" for part in missing)
        raise UsageError(f"No column can be told to be the {missing[0]}: add {options}. There are {_listed(known)}.")
    rated = found["value"] is not None and _plain(found["value"]) in {"rating", "stars"}
    return EventColumns(
        **{part: name for part, name in found.items() if name is not None},
        context=("context",) if "context" in known else (),
        one_kind="rate" if rated else "view",
    )


def _first(known: Sequence[str], usual: Sequence[str], taken: set[str]) -> str | None:
    for name in usual:
        alike = [column for column in known if column not in taken and _plain(column) in {name, name.replace("_", "")}]
        if len(alike) > 1:
            raise UsageError(f"Columns {_listed(alike)} are called alike: name the one that is meant.")
        if alike:
            return alike[0]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def _listed(names: Sequence[str]) -> str:
    some = ", ".join(f"'{name}'" for name in names[:_MOST_LISTED])
    return some if len(names) <= _MOST_LISTED else f"{some} and {len(names) - _MOST_LISTED:,} more"
