"""How the ratings of a log are read at the moment: summed up in the database, and kept up with what has arrived."""

import threading
import time

from sqlalchemy import func, select

from mmrec.events.database.tables import EVENTS
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.ratings import Ratings, RatingScale, RatingTotals

__all__ = ["LogRatings"]


class LogRatings:
    """Sums of all ratings by kind and item. Holds no person; safe to use from several threads.

    When someone is forgotten, in whatever process, all is summed up again without them.
    """

    def __init__(self, kinds: Kinds, patience: float = 1.0) -> None:
        """Take the kinds that are ratings, and for how many seconds sums are good enough."""
        self._kinds = kinds
        self._patience = patience
        self._lock = threading.Lock()
        self._read_at = -float("inf")
        self._totals: dict[str, RatingTotals] = {}
        self._upto = self._forgettings = 0
        self._now: Ratings = {}

    def read(self, log: EventLog) -> Ratings:
        """Sum up what has arrived since the last call, and return how ratings are read now."""
        with self._lock:
            if time.monotonic() - self._read_at < self._patience:
                return self._now
            forgettings, newest = log.forgettings(), log.newest()
            if forgettings != self._forgettings:
                self._totals, self._upto, self._forgettings = {}, 0, forgettings
            if newest != self._upto:
                self._add(log, newest)
                of = self._kinds.ratings
                self._now = {name: RatingScale.of(totals, of[name]) for name, totals in self._totals.items()}
            self._read_at = time.monotonic()
            return self._now

    def _add(self, log: EventLog, newest: int) -> None:
        value = EVENTS.c.value
        asked = (
            select(
                EVENTS.c.kind, EVENTS.c.item, func.count(), func.sum(value), func.sum(value * value),
                func.min(value), func.max(value),
            )
            .where(EVENTS.c.seq > self._upto, EVENTS.c.seq <= newest)
            .where(EVENTS.c.kind.in_(tuple(self._kinds.ratings)), value.is_not(None))
            .group_by(EVENTS.c.kind, EVENTS.c.item)
        )  # fmt: skip
        for kind, item, count, total, squares, low, high in log.query(asked):
            self._totals.setdefault(kind, RatingTotals()).add(item, count, total, squares, (low, high))
        self._upto = newest
