"""Events (user, item, kind, time, value), one by one and as arrays, and which columns of a file hold their parts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Self, TypeAlias

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
    """Columns of a source by their part in an event.

    A single `context` column of JSON objects is the context itself, others are named entries of it. `one_kind` is the
    kind of all events where `kind` is None.
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
    """A row of a source that is no event, as the log keeps it.

    `row` counts from 1; `column` is empty where the whole row is meant. Forgetting a `user` deletes their refused rows
    too. A damaged part of a file is one entry of `count` rows.
    """

    row: int
    column: str
    reason: str
    user: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class RawEvents:
    """Rows of a source by column; `rows` are their numbers from 1, `refused` rows that could not be read."""

    rows: Int64[np.ndarray, " n"]
    columns: Mapping[str, Column]
    refused: tuple[RefusedRow, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EventArrays:
    """Events by column, 26 bytes each.

    `users`, `items` and `kinds` are positions in the names, which are ascending by their UTF-8 bytes. `times` are
    microseconds since 1970 in UTC, `values` NaN where there is none. `order` breaks ties of equal times.
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
        """The events of a mask, or at positions, in their order; all names stay."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        chosen = {name: part[which] if isinstance(part, np.ndarray) else part for name, part in parts.items()}
        return type(self)(**chosen)


class _Names:
    """Numbers texts in order of first appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def codes(self, texts: pa.Array) -> Int32[np.ndarray, " n"]:
        coded = texts.dictionary_encode()
        known = [self._codes.setdefault(text, len(self._codes)) for text in coded.dictionary.to_pylist()]
        return np.array(known, dtype=np.int32)[coded.indices.to_numpy(zero_copy_only=False)]

    def ascending(self) -> tuple[pa.StringArray, Int32[np.ndarray, " names"]]:
        """The texts in order, and the position there of each text by its number."""
        texts = pa.array(list(self._codes), pa.string())
        order = pc.sort_indices(texts).to_numpy()
        places = np.empty(len(order), dtype=np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        return texts.take(pa.array(order)), places


def load_events(batches: Iterable[pa.RecordBatch]) -> EventArrays:
    """Read events as `EventLog.scan` gives them; besides the result, memory is for one batch."""
    users, items, kinds = _Names(), _Names(), _Names()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("users", "items", "kinds", "times", "order", "values")}
    for batch in batches:
        parts["users"].append(users.codes(batch["user"]))
        parts["items"].append(items.codes(batch["item"]))
        parts["kinds"].append(kinds.codes(batch["kind"]).astype(np.int16))
        parts["times"].append(batch["time"].cast(pa.int64()).to_numpy())
        parts["values"].append(batch["value"].to_numpy(zero_copy_only=False).astype(np.float32))
        parts["order"].append(batch["seq"].to_numpy())
    user_ids, user_places = users.ascending()
    item_ids, item_places = items.ascending()
    kind_names, kind_places = kinds.ascending()
    return EventArrays(
        user_ids,
        item_ids,
        tuple(kind_names.to_pylist()),
        users=user_places[_joined(parts.pop("users"), np.int32)],
        items=item_places[_joined(parts.pop("items"), np.int32)],
        kinds=kind_places[_joined(parts.pop("kinds"), np.int16)].astype(np.int16),
        times=_joined(parts.pop("times"), np.int64),
        order=_joined(parts.pop("order"), np.int64),
        values=_joined(parts.pop("values"), np.float32),
    )


def _joined(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
