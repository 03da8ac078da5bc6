"""The most popular items of the last days before a person asks: on time splits it beats most published models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import Kinds
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.counting import speaking
from mmrec.evaluation.scorer import Scorer
from mmrec.users.model import Past

__all__ = ["RecentPopularity"]


@dataclass(frozen=True, slots=True)
class RecentPopularity:
    """Counts the training events that speak for an item within a window before the moment of asking.

    A moment after training gets the last window of training. Items level in the window are told apart by their
    popularity in all of training.

    Attributes:
        window: Length of the window.
        kinds: Which events speak for an item.
        name: What it is called in tables.

    """

    window: timedelta = timedelta(days=14)
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "recent popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Sort the events by time."""
        columns, which = candidates.places(train.items), speaking(train, self.kinds)
        which &= columns >= 0
        order = np.argsort(train.times[which], kind="stable")
        window = self.window // timedelta(microseconds=1)
        columns = columns[which][order]
        total = np.bincount(columns, minlength=len(candidates))
        behind = (total / (total.max(initial=0) + 1)).astype(np.float32)
        return _Fitted(self.name, columns, train.times[which][order], behind, window)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    name: str
    columns: Int64[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    behind: Float32[np.ndarray, "items"]
    window: int

    @property
    def items(self) -> int:
        return len(self.behind)

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"columns": self.columns, "times": self.times, "behind": self.behind, "window": np.array([self.window])}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        end = np.minimum(now, self.times[-1] + 1 if len(self.times) else now)
        first = np.searchsorted(self.times, end - self.window, side="left")
        last = np.searchsorted(self.times, end, side="left")
        scored = np.empty((len(pasts), self.items), dtype=np.float32)
        counted = np.zeros(self.items, dtype=np.float32)
        low = high = 0
        # Moments in their order, so that each event enters and leaves the window once.
        for line in np.argsort(end, kind="stable").tolist():
            counted += self._counts(high, int(last[line]))
            counted -= self._counts(low, int(first[line]))
            low, high = int(first[line]), int(last[line])
            scored[line] = counted + self.behind
        return scored

    def _counts(self, start: int, stop: int) -> Int64[np.ndarray, "items"]:
        return np.bincount(self.columns[start:stop], minlength=self.items)
