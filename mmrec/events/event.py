"""Events (user, item, kind, time, value), one by one and as arrays, and which columns of a file hold their parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int16, Int32, Int64

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
    """One thing that one user did.

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


Column: TypeAlias = pa.Array | list[object]
"""Values of one column as their source had them."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of a source that is no event: what the log keeps of it.

    Attributes:
        row: Number of the source row, from 1.
        column: The column concerned; empty when the whole row is.
        reason: One sentence that a user can act on.
        user: Whose event it was, where that could be read, so that forgetting them reaches this too.
        count: How many rows from this one on, where a part of a file is damaged.

    """

    row: int
    column: str
    reason: str
    user: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class RawEvents:
    """Some rows of a source.

    Attributes:
        rows: Numbers of the source rows, from 1, ascending.
        columns: Values by the source's column names, as many as rows.
        refused: Rows between them that could not even be read.

    """

    rows: Int64[np.ndarray, " n"]
    columns: Mapping[str, Column]
    refused: tuple[RefusedRow, ...] = ()


Ties = Literal["arrival", "id"]
"""What orders events of one instant: their order of arrival, or their ids, which no order of imports can move."""


@dataclass(frozen=True, slots=True, eq=False)
class EventArrays:
    """Events by column, 26 bytes each.

    Attributes:
        user_ids: Ids of the users, ascending by their UTF-8 bytes.
        item_ids: Ids of the items, likewise.
        kind_names: Names of the kinds, in the order of their codes.
        users: Position of each event's user in `user_ids`.
        items: Place of its item in `item_ids`.
        kinds: Place of its kind in `kind_names`.
        times: Microseconds since 1970 in UTC.
        order: What tells earlier from later among events of one instant; no two are alike.
        values: Its value, NaN where there is none.

    """

    user_ids: pa.StringArray
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
    """Read events as `EventLog.scan` gives them; besides the result, memory is for one batch.

    `ties` is what orders events of one instant; ``id`` costs 16 bytes an event more.
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
    user_ids, user_places = users.ascending()
    item_ids, item_places = items.ascending()
    kind_names, kind_places = kinds.ascending()
    order = _joined(parts.pop("order"), np.int64)
    return EventArrays(
        user_ids,
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
