"""How far untrained lists fade from what is popular, fitted to a store's own log and kept while it grows little."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from indexers.ranking import NO_ROW
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event_arrays import load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.openings import DecayedPopularity, Opening, openings
from mmrec.events.ratings import read_ratings
from mmrec.ranking.fading import COUNTS, Asked, Fading, fit_fading
from mmrec.recommend.popular_list import CANDIDATES
from mmrec.recommend.taste_space import TasteSpace
from mmrec.snapshot import Snapshot
from mmrec.users.model import Past

__all__ = ["Fadings"]

_PEOPLE: Final = 100
_EVENTS: Final = 80_000
_GROWN: Final = 1.2
_DEEP: Final = 200


class Fadings:
    """Fits `mmrec.ranking.fading` to the newest events of a log; safe to use from several threads.

    It takes a second or two, at the first list and whenever the log has grown by a fifth or another generation serves.
    """

    def __init__(self, kinds: Kinds) -> None:
        """Take the weights of the kinds."""
        self._kinds = kinds
        self._lock = Lock()
        self._fitted: tuple[int, int, Fading | None] | None = None

    def read(self, snapshot: Snapshot, space: TasteSpace, log: EventLog) -> Fading | None:
        """Return the shares; None where held-out events are too few, or the space was trained on all of them."""
        if snapshot.generation.taste is not None:
            return None
        number = snapshot.generation.manifest.number
        newest, before = log.newest(), self._fitted
        if before is not None and before[0] == number and before[1] <= newest <= max(100, _GROWN * before[1]):
            return before[2]
        # While one request fits anew, others go on with the shares of before.
        if self._lock.acquire(blocking=before is None or before[0] != number):
            try:
                if self._fitted is before:
                    self._fitted = (number, newest, self._fit(snapshot, space, log, newest))
            finally:
                self._lock.release()
        return None if self._fitted is None else self._fitted[2]

    def _fit(self, snapshot: Snapshot, space: TasteSpace, log: EventLog, newest: int) -> Fading | None:
        events = load_events(log.scan(max(0, newest - _EVENTS)))
        rows = snapshot.items.rows_of(events.item_ids.to_pylist())
        ids = sorted(rows, key=str.encode)
        known = KnownItems(pa.array(ids, pa.string()), np.array([rows[name] for name in ids], dtype=np.int64))
        cleaned = clean(events, Cleaning(kinds=self._kinds), known)[0]
        histories = Histories.of(cleaned, known, read_ratings(cleaned, self._kinds))
        weights = histories.weights(self._kinds.weights)
        questions = openings(histories, weights, COUNTS, _PEOPLE)
        if not questions:
            return None
        return fit_fading(_Asking(space, histories, weights).asked(questions))


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """Makes lists of candidates as recommending does, for users of the past."""

    space: TasteSpace
    histories: Histories
    weights: Float32[np.ndarray, " n"]

    def asked(self, questions: Sequence[Opening]) -> list[Asked]:
        rows = np.unique(self.histories.items)
        popularity = DecayedPopularity(self.histories, self.weights, rows)
        vectors = self.space.vectors(rows)
        found = []
        for one in questions:
            popular = popularity.at(one.moment)
            some = np.sort(np.argsort(-popular, kind="stable")[:CANDIDATES])
            some = some[popular[some] > 0]
            asked = self._asked(one, rows[some], popular[some], vectors[some])
            if asked is not None:
                found.append(asked)
        return found

    def _asked(
        self,
        one: Opening,
        rows: Int64[np.ndarray, " p"],
        popular: Float32[np.ndarray, " p"],
        vectors: Float32[np.ndarray, "p dim"],
    ) -> Asked | None:
        past = self._past(one.past)
        people = self.space.model.people([past], [self.space.vectors(past.rows)], one.moment)[0].vectors
        if not len(people):
            return None
        near = self.space.index.search(people, _DEEP + len(past))
        there = near.rows != NO_ROW
        every = np.unique(np.concatenate([rows, near.rows[there]]))
        likeness = np.full(len(every), -1, dtype=np.float32)
        np.maximum.at(likeness, np.searchsorted(every, near.rows[there]), near.scores[there])
        places = np.searchsorted(every, rows)
        likeness[places] = np.maximum(likeness[places], (vectors @ people.T).max(axis=1))
        popularity = np.zeros(len(every), dtype=np.float32)
        popularity[places] = popular
        left = ~np.isin(every, past.rows)
        targets = np.flatnonzero(np.isin(every[left], one.targets))
        return Asked(one.person, one.known, popularity[left], likeness[left], targets, len(one.targets) - len(targets))

    def _past(self, at: slice) -> Past:
        told = self.histories
        kinds = tuple(told.kind_names[kind] for kind in told.kinds[at].tolist())
        return Past(
            told.items[at],
            kinds,
            self.weights[at],
            told.times[at],
            None if told.strengths is None else told.strengths[at],
        )
