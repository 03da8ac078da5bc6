"""The log of a store's events, opened when it is there and first needed."""

import threading
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from mmrec.behaviour.event import Event
from mmrec.behaviour.kinds import Kinds
from mmrec.behaviour.log import Appended, EventLog
from mmrec.behaviour.log_ratings import LogRatings
from mmrec.behaviour.popularity import Popular, RecentPopularity
from mmrec.behaviour.ratings import Ratings
from mmrec.event_log import Noter, has_events, open_event_log
from mmrec.ranking.fading import Fading
from mmrec.recommending.fading import Fadings
from mmrec.recommending.person import Did
from mmrec.recommending.taste_space import TasteSpace
from mmrec.snapshot import Snapshot
from mmrec.store.containment import refuse_linked
from mmrec.store.layout import EVENT_FILES, Layout

__all__ = ["StoreEvents"]

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
