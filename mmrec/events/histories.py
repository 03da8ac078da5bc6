"""User histories as arrays, oldest event first; known items; held-out prefixes of histories; decayed popularity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int16, Int64

from mmrec.errors import UsageError
from mmrec.events.event import EventArrays
from mmrec.events.ratings import Ratings, strengths_of


@dataclass(frozen=True, slots=True, eq=False)
class KnownItems:
    """Ids of items, ascending by their UTF-8 bytes, and the row number of each in the item table and the indexes."""

    ids: pa.StringArray
    rows: Int64[np.ndarray, " items"]

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> "KnownItems":
        """Take batches with columns ``id`` and ``_rowid``, as `ItemTable.id_rows` gives them."""
        schema = pa.schema([("id", pa.string()), ("_rowid", pa.int64())])
        table = pa.Table.from_batches([batch.select(schema.names).cast(schema) for batch in batches], schema)
        table = table.sort_by("id").combine_chunks()
        ids = pa.chunked_array(table["id"], pa.string()).combine_chunks()
        return cls(ids, table["_rowid"].to_numpy())

    @classmethod
    def numbered(cls, ids: Sequence[str]) -> "KnownItems":
        """Number items by their position in a list: for events without a store."""
        columns = {"id": pa.array(ids, pa.string()), "_rowid": pa.array(range(len(ids)), pa.int64())}
        return cls.of([pa.record_batch(columns)])

    def among(self, rows: Int64[np.ndarray, " some"]) -> "KnownItems":
        """The items of some row numbers."""
        there = np.isin(self.rows, rows)
        return KnownItems(self.ids.filter(pa.array(there)), self.rows[there])

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def rows_of(self, ids: pa.StringArray) -> Int64[np.ndarray, " n"]:
        """Row number of each id, -1 where there is no such item."""
        places = pc.index_in(ids, value_set=self.ids).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        found = places >= 0
        rows = np.full(len(places), -1, dtype=np.int64)
        rows[found] = self.rows[places[found]]
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """Histories of some users, newest event last, 22 to 26 bytes an event.

    The events of the user at position p are those from ``offsets[p]`` to ``offsets[p + 1]``. Items are row numbers of
    the store, so arrays of vectors are looked up by them, and not paired with events by position. User ids are
    ascending by their UTF-8 bytes; each has at least one event. Times are microseconds since 1970 in UTC; values and
    `strengths` (see `mmrec.events.ratings`) are NaN where there are none.
    """

    user_ids: pa.StringArray
    offsets: Int64[np.ndarray, " users_and_one"]
    items: Int64[np.ndarray, " n"]
    kinds: Int16[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    values: Float32[np.ndarray, " n"]
    kind_names: tuple[str, ...]
    strengths: Float32[np.ndarray, " n"] | None = None

    @classmethod
    def of(cls, events: EventArrays, known: KnownItems, ratings: Ratings | None = None) -> Self:
        """Convert cleaned events; with `ratings` the values of ratings count, without them events count by kind alone.

        Raises UsageError where events are not in order, or an item is not known: clean them first, with `known`.
        """
        _check_order(events)
        rows = known.rows_of(events.item_ids)[events.items]
        if (rows < 0).any():
            unknown = events.item_ids[int(events.items[np.argmax(rows < 0)])].as_py()
            raise UsageError(f"There is no item {unknown!r}: clean the events with the items that are known.")
        counts = np.bincount(events.users, minlength=len(events.user_ids))
        there = counts > 0
        return cls(
            events.user_ids.filter(pa.array(there)),
            np.concatenate([[0], np.cumsum(counts[there])]).astype(np.int64),
            rows,
            events.kinds,
            events.times,
            events.values,
            events.kind_names,
            strengths_of(events, ratings) if ratings else None,
        )

    def __len__(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def lengths(self) -> Int64[np.ndarray, " users"]:
        """Number of events of each user."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Int64[np.ndarray, " n"]:
        """Position of each event's user in `user_ids`."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def span(self, place: int) -> slice:
        """Positions of the events of the user at a position."""
        return slice(int(self.offsets[place]), int(self.offsets[place + 1]))

    def keep(self, which: Bool[np.ndarray, " n"]) -> Self:
        """The histories of some of the events; users without any left are dropped."""
        counts = np.bincount(self.owners[which], minlength=len(self))
        there = counts > 0
        return replace(
            self,
            user_ids=self.user_ids.filter(pa.array(there)),
            offsets=np.concatenate([[0], np.cumsum(counts[there])]).astype(np.int64),
            items=self.items[which],
            kinds=self.kinds[which],
            times=self.times[which],
            values=self.values[which],
            strengths=None if self.strengths is None else self.strengths[which],
        )

    def weights(self, weights: Mapping[str, float], other: float = 0.0) -> Float32[np.ndarray, " n"]:
        """Weight of each event: that of its kind, `other` where it has none, times what it says as a rating."""
        by_kind = self.kind_weights(weights, other)
        return by_kind if self.strengths is None else by_kind * np.nan_to_num(self.strengths, nan=1.0)

    def kind_weights(self, weights: Mapping[str, float], other: float = 0.0) -> Float32[np.ndarray, " n"]:
        """Weight of each event's kind, `other` where it has none, whatever the event says as a rating."""
        return np.array([weights.get(name, other) for name in self.kind_names], dtype=np.float32)[self.kinds]

    def digest(self) -> str:
        """SHA-256 of all arrays, in hex."""
        seen = sha256(repr((self.user_ids.to_pylist(), self.kind_names)).encode())
        for array in (self.offsets, self.items, self.kinds, self.times, self.values):
            seen.update(np.ascontiguousarray(array).tobytes())
        if self.strengths is not None:
            seen.update(self.strengths.tobytes())
        return seen.hexdigest()


def _check_order(events: EventArrays) -> None:
    same = events.users[1:] == events.users[:-1]
    forward = (events.users[1:] > events.users[:-1]) | (same & (events.times[1:] >= events.times[:-1]))
    if not forward.all():
        raise UsageError("The events are not ordered by user and time: clean them first.")


_DAY: Final = 86_400_000_000
_TARGET_EVENTS: Final = 10
_SKIPPED_SHARE: Final = 0.2
_MAX_HALF_LIVES: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class HistoryPrefix:
    """A prefix of a user's history, `past`, with the liked items of the next events as targets.

    `user` is a position in the histories, `targets` are row numbers, `moment` is the time of the first event after the
    prefix in microseconds since 1970.
    """

    user: int
    known: int
    past: slice
    targets: Int64[np.ndarray, " t"]
    moment: int


def sample_prefixes(
    histories: Histories, weights: Float32[np.ndarray, " n"], counts: tuple[int, ...], users: int, seed: int = 0
) -> list[HistoryPrefix]:
    """Sample users, and return the prefix of their history after each number of events, as far as it goes on.

    Users whose first event is in the first fifth of the time of all events are not sampled: nothing was popular yet.
    """
    if not len(histories):
        return []
    begin = np.quantile(histories.times, _SKIPPED_SHARE)
    able = np.flatnonzero((histories.lengths > min(counts)) & (histories.times[histories.offsets[:-1]] >= begin))
    drawn = np.sort(np.random.default_rng(seed).permutation(able)[:users])
    found = []
    for user in drawn.tolist():
        start, stop = histories.offsets[user : user + 2].tolist()
        for known in counts:
            first = start + known
            ahead = np.arange(first, min(first + _TARGET_EVENTS, stop))
            liked = ahead[weights[ahead] > 0]
            targets = np.setdiff1d(histories.items[liked], histories.items[start:first])
            if len(targets):
                found.append(HistoryPrefix(user, known, slice(start, first), targets, int(histories.times[first])))
    return found


class DecayedPopularity:
    """Popularity as it was at any moment: sums of the weights of events, halved with every week of age."""

    def __init__(
        self, histories: Histories, weights: Float32[np.ndarray, " n"], rows: Int64[np.ndarray, " items"]
    ) -> None:
        """Index all events by time; `rows` are ascending, and other items do not count."""
        places = np.searchsorted(rows, histories.items)
        there = rows[np.minimum(places, len(rows) - 1)] == histories.items if len(rows) else places < 0
        order = np.argsort(histories.times[there], kind="stable")
        self._count = len(rows)
        self._places, self._weights = places[there][order], weights[there][order]
        self._times = histories.times[there][order]

    def at(self, moment: int, half_days: float = 7.0) -> Float32[np.ndarray, " items"]:
        """Popularity of each item by the events before a moment; not below 0."""
        life = half_days * _DAY
        first, last = np.searchsorted(self._times, [moment - int(_MAX_HALF_LIVES * life), moment]).tolist()
        fades = 0.5 ** ((moment - self._times[first:last]) / life)
        sums = np.bincount(self._places[first:last], self._weights[first:last] * fades, self._count)
        return np.maximum(0, sums).astype(np.float32)
