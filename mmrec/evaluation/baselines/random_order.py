"""Items in an order drawn anew for each question: chance, as it happens to fall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.scorer import Scorer
from mmrec.users.model import Past

__all__ = ["RandomOrder"]


@dataclass(frozen=True, slots=True)
class RandomOrder:
    """Draws an order from the seed, the moment and the length of the past: the same question gets the same order."""

    seed: int = 0
    name: str = "random"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the number of candidates; nothing is learned."""
        del train
        return _Fitted(self.name, self.seed, len(candidates))


@dataclass(frozen=True, slots=True)
class _Fitted:
    name: str
    seed: int
    items: int

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"seed": np.array([self.seed]), "items": np.array([self.items])}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        drawn = np.empty((len(pasts), self.items), dtype=np.float32)
        for line, (past, moment) in enumerate(zip(pasts, now.tolist(), strict=True)):
            last = int(past.rows[-1]) if len(past) else -1
            seed = [self.seed, abs(moment), len(past), last + 1]
            drawn[line] = np.random.default_rng(seed).random(self.items, dtype=np.float32)
        return drawn
