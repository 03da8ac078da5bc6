"""A user's past events, from the store's log or given with the request."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmrec.event_log import Noter, has_events, open_event_log
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds
from mmrec.events.log import Appended, EventLog
from mmrec.events.popularity import LogRatings, Popular, RecentPopularity
from mmrec.events.ratings import Ratings, strengths_of_user
from mmrec.ranking.fading import Fading
from mmrec.recommend.popular_list import Fadings
from mmrec.recommend.taste_space import TasteSpace
from mmrec.snapshot import Snapshot
from mmrec.storage.containment import refuse_linked
from mmrec.storage.layout import EVENT_FILES, Layout
from mmrec.users.model import Past


class Did(NamedTuple):
    """What was done with which item, when, in microseconds since 1970, and its value, such as stars."""

    item: str
    kind: str
    time: int
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person.

    Attributes:
        past: Events with items that there are, oldest first.
        ids: The id of each event's item.
        seen: Rows of the items met, ascending.
        turned_down: Rows of those whose latest event speaks against them, ascending.
        unknown: Ids that no item has, each once, in order.

    """

    past: Past
    ids: tuple[str, ...]
    seen: Int64[np.ndarray, " s"]
    turned_down: Int64[np.ndarray, " d"]
    unknown: tuple[str, ...]

    @property
    def events(self) -> int:
        """Number of events with items that there are."""
        return len(self.past)


def as_person(
    done: Sequence[Did], rows: Mapping[str, int], kinds: Kinds, ratings: Ratings = MappingProxyType({})
) -> Person:
    """Turn events, oldest first, into a person; an event whose kind has no weight says only that the item was met.

    Args:
        done: The events.
        rows: Row number of each item that there is.
        kinds: Weights of the kinds.
        ratings: How the values of ratings are read; without it they do not count.

    """
    there = [one for one in done if one.item in rows]
    found = np.array([rows[one.item] for one in there], dtype=np.int64)
    columns = ([one.item for one in there], [one.kind for one in there], [one.value for one in there])
    strengths = strengths_of_user(*columns, ratings)
    weights = kinds.of(columns[1]) * np.nan_to_num(strengths, nan=1.0)
    times = np.maximum.accumulate(np.array([one.time for one in there], dtype=np.int64))
    latest = {row: weight for row, weight in zip(found.tolist(), weights.tolist(), strict=True) if weight}
    against = sorted(row for row, weight in latest.items() if weight < 0)
    return Person(
        Past(found, tuple(columns[1]), weights, times, strengths if ratings else None),
        tuple(one.item for one in there),
        np.unique(found),
        np.array(against, dtype=np.int64),
        tuple(dict.fromkeys(one.item for one in done if one.item not in rows)),
    )


_NOTHING: Final = Popular((), (), 0)


class StoreEvents:
    """What people did, as the log says at the moment of asking. A store without a log has no events, and is fine."""

    def __init__(self, layout: Layout, place: str | None = None, kinds: Kinds | None = None) -> None:
        """Take the store, the SQLAlchemy URL of its log where it is not its own, and the weights of the kinds."""
        self.kinds = Kinds() if kinds is None else kinds
        self._layout = layout
        self._place = place
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self._noter = Noter(layout)
        self._popularity = RecentPopularity(self.kinds)
        self._ratings = LogRatings(self.kinds)
        self._fadings = Fadings(self.kinds)

    def record(self, events: Sequence[Event]) -> Appended:
        """Append events; they are durable when this returns. The log is made where there is none."""
        log = self._opened()
        appended = log.append(events, self.kinds)
        if self._place is None:
            self._noter.recorded(log)
        return appended

    def history(self, user: str) -> list[Did]:
        """Return what a person did, oldest first."""
        if not self._is_there():
            return []
        found = self._opened().history(user)
        moments = found["time"].cast(pa.int64()).to_pylist()
        columns = (found["item"].to_pylist(), found["kind"].to_pylist(), moments, found["value"].to_pylist())
        return list(map(Did, *columns))

    def ratings(self, done: Sequence[Did]) -> Ratings:
        """Return how the ratings of a person are read, by all the ratings that the log has now."""
        if not self._is_there() or not any(one.kind in self.kinds.ratings and one.value is not None for one in done):
            return {}
        return self._ratings.read(self._opened())

    def popular(self) -> Popular:
        """Return what is popular now."""
        return self._popularity.read(self._opened()) if self._is_there() else _NOTHING

    def fading(self, snapshot: Snapshot, space: TasteSpace) -> Fading | None:
        """Return how far untrained lists fade from what is popular; None where the log is too short to tell."""
        return self._fadings.read(snapshot, space, self._opened()) if self._is_there() else None

    def close(self) -> None:
        """Close the log; it is opened again when needed."""
        with self._lock:
            if self._log is not None:
                self._noter.finish(self._log)
                self._log.close()
            self._log = None

    def _is_there(self) -> bool:
        return self._log is not None or has_events(self._layout, self._place)

    def _opened(self) -> EventLog:
        with self._lock:
            if self._log is None:
                refuse_linked(self._layout.root, EVENT_FILES)  # the store was opened long ago, perhaps
                self._log = open_event_log(self._layout, self._place)
            return self._log
