"""The most popular items of all training, the same for everyone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import Kinds
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.counting import counts
from mmrec.evaluation.scorer import Scorer
from mmrec.users.model import Past

__all__ = ["Popularity"]


@dataclass(frozen=True, slots=True)
class Popularity:
    """Counts the events that speak for an item; `kinds` says which do."""

    kinds: Kinds = field(default_factory=Kinds)
    name: str = "popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Count events."""
        return _Fitted(self.name, counts(train, candidates, self.kinds))


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    name: str
    counts: Int64[np.ndarray, " items"]

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"counts": self.counts}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        return np.tile(self.counts.astype(np.float32), (len(pasts), 1))
