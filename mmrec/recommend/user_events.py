"""A user's events, from the store's log or given with the request."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmrec.event_log import CheckpointWriter, has_events, open_event_log
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds
from mmrec.events.log import Appended, EventLog
from mmrec.events.popularity import LogPopularity, LogRatings, Popular
from mmrec.events.ratings import Ratings, strengths_of_user
from mmrec.recommend.popular_list import PopularityBlendCache
from mmrec.recommend.popularity_blend import PopularityBlend
from mmrec.recommend.user_item_space import UserItemSpace
from mmrec.snapshot import Snapshot
from mmrec.storage.containment import check_not_links
from mmrec.storage.layout import EVENT_FILES, Layout
from mmrec.users.model import History


class HistoryEvent(NamedTuple):
    """Item, kind, time in microseconds since 1970, and value, such as stars."""

    item: str
    kind: str
    time: int
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class UserContext:
    """A user of whom a list is requested.

    `history` has the events with items of the store, oldest first, `ids` the id of each event's item. `seen` are the
    rows of these items, `disliked` those whose latest event is negative, both ascending. `unknown` are ids without an
    item.
    """

    history: History
    ids: tuple[str, ...]
    seen: Int64[np.ndarray, " s"]
    disliked: Int64[np.ndarray, " d"]
    unknown: tuple[str, ...]


def user_context(
    events: Sequence[HistoryEvent], rows: Mapping[str, int], kinds: Kinds, ratings: Ratings = MappingProxyType({})
) -> UserContext:
    """Collect events, oldest first; an event whose kind has no weight says only that the item was seen.

    `rows` gives the row number of each item of the store. Without `ratings` the values of ratings do not count.
    """
    known = [one for one in events if one.item in rows]
    found = np.array([rows[one.item] for one in known], dtype=np.int64)
    ids, names = tuple(one.item for one in known), tuple(one.kind for one in known)
    strengths = strengths_of_user(ids, names, [one.value for one in known], ratings)
    weights = kinds.weights_of(names) * np.nan_to_num(strengths, nan=1.0)
    times = np.maximum.accumulate(np.array([one.time for one in known], dtype=np.int64))
    latest = {row: weight for row, weight in zip(found.tolist(), weights.tolist(), strict=True) if weight}
    disliked = sorted(row for row, weight in latest.items() if weight < 0)
    return UserContext(
        History(found, names, weights, times, strengths if ratings else None),
        ids,
        np.unique(found),
        np.array(disliked, dtype=np.int64),
        tuple(dict.fromkeys(one.item for one in events if one.item not in rows)),
    )


class StoreEvents:
    """The events in a store's log at the time of each request. A store without a log has no events."""

    def __init__(self, layout: Layout, url: str | None = None, kinds: Kinds | None = None) -> None:
        """Open nothing yet; `url` is the SQLAlchemy URL of the log, where it is not the store's own."""
        self.kinds = Kinds() if kinds is None else kinds
        self._layout = layout
        self._url = url
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self._checkpoints = CheckpointWriter(layout)
        self._popularity = LogPopularity(self.kinds)
        self._ratings = LogRatings(self.kinds)
        self._blends = PopularityBlendCache(self.kinds)

    def record(self, events: Sequence[Event]) -> Appended:
        """Append events; they are durable when this returns. The log is created if missing."""
        log = self._opened()
        appended = log.append(events, self.kinds)
        if self._url is None:
            self._checkpoints.after_append(log)
        return appended

    def history(self, user: str) -> list[HistoryEvent]:
        """Return a user's events, oldest first."""
        if not self._exists():
            return []
        found = self._opened().history(user)
        columns = (found["item"], found["kind"], found["time"].cast(pa.int64()), found["value"])
        return list(map(HistoryEvent, *(column.to_pylist() for column in columns)))

    def ratings(self, events: Sequence[HistoryEvent]) -> Ratings:
        """How the ratings among some events are read, by all the ratings that the log has now."""
        rated = any(one.kind in self.kinds.ratings and one.value is not None for one in events)
        return self._ratings.read(self._opened()) if rated and self._exists() else {}

    def popular(self) -> Popular:
        """The items that are popular now."""
        return self._popularity.read(self._opened()) if self._exists() else Popular((), (), 0)

    def popularity_blend(self, snapshot: Snapshot, space: UserItemSpace) -> PopularityBlend | None:
        """The blend of popularity and similarity for untrained lists; None where the log is too short."""
        return self._blends.read(snapshot, space, self._opened()) if self._exists() else None

    def close(self) -> None:
        """Close the log; it is opened again when needed."""
        with self._lock:
            if self._log is not None:
                self._checkpoints.finish(self._log)
                self._log.close()
            self._log = None

    def _exists(self) -> bool:
        return self._log is not None or has_events(self._layout, self._url)

    def _opened(self) -> EventLog:
        with self._lock:
            if self._log is None:
                check_not_links(self._layout.root, EVENT_FILES)  # a link may have been made since the store was opened
                self._log = open_event_log(self._layout, self._url)
            return self._log
