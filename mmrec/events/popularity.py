"""Recent popularity of items and totals of ratings: summed in the database, and updated with new events."""

import threading
import time
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import func, select

from mmrec.events.database import EVENTS
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.ratings import Ratings, RatingScale, RatingTotals

_DAY: Final = 86_400_000_000
_MAX_HALF_LIVES: Final = 4.0


@dataclass(frozen=True, slots=True)
class Popular:
    """Ids of items, the most popular first, ties by id; their decayed sums, above 0.

    The last sequence number counted.
    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    last_seq: int


Summed = TypeVar("Summed")


class LogSums(Generic[Summed]):
    """Sums over a log by item, updated when they are read. Holds no user id; safe in several threads.

    When a user is forgotten, in whatever process, everything is summed again without them.
    """

    def __init__(self, kinds: Kinds, max_age_seconds: float, nothing: Summed) -> None:
        """Sums are reused for `max_age_seconds`; `nothing` is the result for an empty log."""
        self._kinds, self._max_age, self._nothing = kinds, max_age_seconds, nothing
        self._lock = threading.Lock()
        self._read_at = -float("inf")
        self._last_seq = self._forgettings = 0
        self._now = nothing

    def read(self, log: EventLog) -> Summed:
        """Add the events since the last call, and return the result."""
        with self._lock:
            if time.monotonic() - self._read_at < self._max_age:
                return self._now
            # In this order: who is forgotten between the two is then counted again the next time.
            forgettings, newest = log.forgettings(), log.newest()
            if forgettings != self._forgettings:
                self._clear()
                self._now, self._last_seq, self._forgettings = self._nothing, 0, forgettings
            if newest != self._last_seq:
                self._now = self._add(log, newest)
                self._last_seq = newest
            self._read_at = time.monotonic()
            return self._now

    def _clear(self) -> None:
        raise NotImplementedError

    def _add(self, log: EventLog, newest: int) -> Summed:
        """Add the events after `_upto`, up to a sequence number."""
        raise NotImplementedError


class LogRatings(LogSums[Ratings]):
    """How ratings are read: sums of all ratings by kind and item."""

    def __init__(self, kinds: Kinds, max_age_seconds: float = 1.0) -> None:
        """Sums are reused for `max_age_seconds`."""
        super().__init__(kinds, max_age_seconds, {})
        self._totals: dict[str, RatingTotals] = {}

    def _clear(self) -> None:
        self._totals = {}

    def _add(self, log: EventLog, newest: int) -> Ratings:
        value = EVENTS.c.value
        statement = (
            select(
                EVENTS.c.kind, EVENTS.c.item, func.count(), func.sum(value), func.sum(value * value),
                func.min(value), func.max(value),
            )
            .where(EVENTS.c.seq > self._last_seq, EVENTS.c.seq <= newest)
            .where(EVENTS.c.kind.in_(tuple(self._kinds.ratings)), value.is_not(None))
            .group_by(EVENTS.c.kind, EVENTS.c.item)
        )  # fmt: skip
        for kind, item, count, total, squares, low, high in log.query(statement):
            self._totals.setdefault(kind, RatingTotals()).add(item, count, total, squares, (low, high))
        of = self._kinds.ratings
        return {name: RatingScale.of(totals, of[name]) for name, totals in self._totals.items()}


class LogPopularity(LogSums[Popular]):
    """Decayed sums of the weights of events by item.

    Per day, user, item and kind one event counts, as far as they arrive in one update. A pause without any event ages
    older events by at most four half-lives, so that the first new event does not displace all others. Events in the
    future do not count.
    """

    def __init__(self, kinds: Kinds, half_days: float = 7.0, most: int = 1000, max_age_seconds: float = 1.0) -> None:
        """An event counts half after `half_days`; at most `most` items are returned."""
        super().__init__(kinds, max_age_seconds, Popular((), (), 0))
        self._half_days, self._most = half_days, most
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._day: int | None = None

    def _add(self, log: EventLog, newest: int) -> Popular:
        self._count(log, newest)
        order = sorted(
            (item for item, total in self._sums.items() if total > 0), key=lambda item: (-self._sums[item], item)
        )
        kept = tuple(order[: self._most])
        return Popular(kept, tuple(self._sums[item] for item in kept), newest)

    def _count(self, log: EventLog, newest: int) -> None:
        day = (EVENTS.c.time // _DAY).label("day")
        tomorrow = (time.time_ns() // 1000 // _DAY + 1) * _DAY + _DAY
        statement = (
            select(EVENTS.c.item, EVENTS.c.kind, day, func.count(EVENTS.c.user.distinct()))
            .where(EVENTS.c.seq > self._last_seq, EVENTS.c.seq <= newest, EVENTS.c.time < tomorrow)
            .group_by(EVENTS.c.item, EVENTS.c.kind, day)
            .order_by(day)
        )
        for item, kind, at, users in log.query(statement):
            weight = self._kinds.weights.get(kind, 0.0) * users
            if weight:
                factor = self._factor(int(at))  # first, as it may make all the sums smaller
                self._sums[item] = self._sums.get(item, 0.0) + weight * factor

    def _factor(self, day: int) -> float:
        """Weight of a day relative to the newest day so far; a newer one shrinks all older sums."""
        if self._day is None or day > self._day:
            gap = 0 if self._day is None else min(day - self._day, _MAX_HALF_LIVES * self._half_days)
            fade = 0.5 ** (gap / self._half_days)
            self._sums = {item: total * fade for item, total in self._sums.items() if total * fade}
            self._day = day
        return float(0.5 ** ((self._day - day) / self._half_days))
