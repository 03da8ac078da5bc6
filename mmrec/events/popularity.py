"""Recent popularity of items: counted in the database, and kept up with what has arrived since."""

import threading
import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from mmrec.events.database import EVENTS
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog

_DAY: Final = 86_400_000_000
_LONGEST_GAP: Final = 4.0


@dataclass(frozen=True, slots=True)
class Popular:
    """Items by recent popularity.

    Attributes:
        ids: Ids, the most popular first; ties by id.
        scores: Decayed sum of each; all are above 0.
        upto: Number of arrival of the newest event that was counted.

    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    upto: int


class RecentPopularity:
    """Decayed sums of the weights of events by item. Holds no user id; safe to use from several threads.

    On one day a user counts once for a kind and an item, however often they come back to it, as far as what arrives
    between two calls goes. A time without any event ages what was before by four half-lives at most: after a long pause
    the first new event does not make all else forgotten. Events of the future do not count. When someone is forgotten,
    in whatever process, all is counted again without them.
    """

    def __init__(self, kinds: Kinds, half_days: float = 7.0, most: int = 1000, patience: float = 1.0) -> None:
        """Take how events are weighed, and how much is kept.

        Args:
            kinds: Weights of the kinds.
            half_days: Days after which an event counts half.
            most: Items that are ever asked for.
            patience: Seconds for which a count is good enough.

        """
        self._patience = patience
        self._read_at = -float("inf")
        self._kinds = kinds
        self._half_days = half_days
        self._most = most
        self._lock = threading.Lock()
        self._sums: dict[str, float] = {}
        self._day: int | None = None
        self._now = Popular((), (), 0)
        self._forgettings = 0

    def read(self, log: EventLog) -> Popular:
        """Count what has arrived since the last call, and return the most popular items."""
        with self._lock:
            if time.monotonic() - self._read_at < self._patience:
                return self._now
            # In this order: who is forgotten between the two is then counted again the next time.
            forgettings, newest = log.forgettings(), log.newest()
            if forgettings != self._forgettings:
                self._sums, self._day, self._now = {}, None, Popular((), (), 0)
                self._forgettings = forgettings
            if newest != self._now.upto:
                self._count(log, newest)
                order = sorted((item for item, total in self._sums.items() if total > 0), key=self._place)
                kept = tuple(order[: self._most])
                self._now = Popular(kept, tuple(self._sums[item] for item in kept), newest)
            self._read_at = time.monotonic()
            return self._now

    def _place(self, item: str) -> tuple[float, str]:
        return -self._sums[item], item

    def _count(self, log: EventLog, newest: int) -> None:
        day = (EVENTS.c.time // _DAY).label("day")
        tomorrow = (time.time_ns() // 1000 // _DAY + 1) * _DAY + _DAY
        asked = (
            select(EVENTS.c.item, EVENTS.c.kind, day, func.count(EVENTS.c.user.distinct()))
            .where(EVENTS.c.seq > self._now.upto, EVENTS.c.seq <= newest, EVENTS.c.time < tomorrow)
            .group_by(EVENTS.c.item, EVENTS.c.kind, day)
            .order_by(day)
        )
        for item, kind, at, users in log.query(asked):
            weight = self._kinds.weights.get(kind, 0.0) * users
            if weight:
                factor = self._factor(int(at))  # first, as it may make all the sums smaller
                self._sums[item] = self._sums.get(item, 0.0) + weight * factor

    def _factor(self, day: int) -> float:
        """What a day counts beside the newest day so far; a newer one makes all before it smaller."""
        if self._day is None or day > self._day:
            gap = 0 if self._day is None else min(day - self._day, _LONGEST_GAP * self._half_days)
            fade = 0.5 ** (gap / self._half_days)
            self._sums = {item: total * fade for item, total in self._sums.items() if total * fade}
            self._day = day
        return float(0.5 ** ((self._day - day) / self._half_days))
