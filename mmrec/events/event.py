"""Events (user, item, kind, time, value), one by one and as arrays, and which columns of a file hold their parts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int16, Int32, Int64

from mmrec.errors import UsageError

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


Ties = Literal["arrival", "id"]
"""What orders events of one instant: their order of arrival, or their ids, which no order of imports can move."""


@dataclass(frozen=True, slots=True, eq=False)
class EventArrays:
    """Events by column, 26 bytes each.

    Attributes:
        people: Ids of the people, ascending by their UTF-8 bytes.
        item_ids: Ids of the items, likewise.
        kind_names: Names of the kinds, in the order of their codes.
        users: Place of each event's person in `people`.
        items: Place of its item in `item_ids`.
        kinds: Place of its kind in `kind_names`.
        times: Microseconds since 1970 in UTC.
        order: What tells earlier from later among events of one instant; no two are alike.
        values: Its value, NaN where there is none.

    """

    people: pa.StringArray
    item_ids: pa.StringArray
    kind_names: tuple[str, ...]
    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, " n"]
    kinds: Int16[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    order: Int64[np.ndarray, " n"]
    values: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Number of events."""
        return len(self.times)

    def take(self, which: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> Self:
        """The events of a mask, or of places in their order; the names stay, used or not."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        chosen = {name: part[which] if isinstance(part, np.ndarray) else part for name, part in parts.items()}
        return type(self)(**chosen)


class _Names:
    """Numbers for texts, as they come."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def codes(self, texts: pa.Array) -> Int32[np.ndarray, " n"]:
        coded = texts.dictionary_encode()
        known = [self._codes.setdefault(text, len(self._codes)) for text in coded.dictionary.to_pylist()]
        return np.array(known, dtype=np.int32)[coded.indices.to_numpy(zero_copy_only=False)]

    def ascending(self) -> tuple[pa.StringArray, Int32[np.ndarray, " names"]]:
        """The texts in order, and the place there of each text by the number that it was given."""
        texts = pa.array(list(self._codes), pa.string())
        order = pc.sort_indices(texts).to_numpy()
        places = np.empty(len(order), dtype=np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        return texts.take(pa.array(order)), places


def load_events(batches: Iterable[pa.RecordBatch], ties: Ties = "arrival") -> EventArrays:
    """Take events as `EventLog.scan` gives them; besides the result, memory is for one batch.

    Args:
        batches: Events with columns as in `mmrec.events.log.LOG_SCHEMA`.
        ties: What orders events of one instant; ``id`` costs 16 bytes an event more.

    """
    users, items, kinds = _Names(), _Names(), _Names()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("users", "items", "kinds", "times", "order", "values")}
    for batch in batches:
        parts["users"].append(users.codes(batch["user"]))
        parts["items"].append(items.codes(batch["item"]))
        parts["kinds"].append(kinds.codes(batch["kind"]).astype(np.int16))
        parts["times"].append(batch["time"].cast(pa.int64()).to_numpy())
        parts["values"].append(batch["value"].to_numpy(zero_copy_only=False).astype(np.float32))
        ids = np.frombuffer(batch["id"].buffers()[1], dtype="S16" if ties == "id" else "V16")
        ids = ids[batch["id"].offset :][: len(batch)]
        parts["order"].append(ids.copy() if ties == "id" else batch["seq"].to_numpy())
    people, user_places = users.ascending()
    item_ids, item_places = items.ascending()
    kind_names, kind_places = kinds.ascending()
    order = _joined(parts.pop("order"), np.int64)
    return EventArrays(
        people,
        item_ids,
        tuple(kind_names.to_pylist()),
        users=user_places[_joined(parts.pop("users"), np.int32)],
        items=item_places[_joined(parts.pop("items"), np.int32)],
        kinds=kind_places[_joined(parts.pop("kinds"), np.int16)].astype(np.int16),
        times=_joined(parts.pop("times"), np.int64),
        order=order if order.dtype == np.int64 else _ranks(order),
        values=_joined(parts.pop("values"), np.float32),
    )


def _joined(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _ranks(ids: np.ndarray) -> Int64[np.ndarray, " n"]:
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[np.argsort(ids)] = np.arange(len(ids))
    return ranks
