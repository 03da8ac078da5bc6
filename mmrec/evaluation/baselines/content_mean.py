"""Items whose contents are like the mean of what a person met: no training, and new items take part at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.errors import UsageError
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.counting import past_matrix
from mmrec.evaluation.scorer import Scorer
from mmrec.users.model import Past

__all__ = ["ContentMean"]


@dataclass(frozen=True, slots=True)
class ContentMean:
    """Averages the content vectors of the past; after `half_life` later events an event counts half."""

    half_life: float = 5.0
    name: str = "content mean"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the contents; nothing is learned of behaviour. Raises UsageError where there are none."""
        del train
        if candidates.vectors is None:
            raise UsageError("The content mean needs content vectors: give candidates that have them.")
        return _Fitted(self.name, candidates, candidates.vectors, self.half_life)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    name: str
    candidates: Candidates
    vectors: Float32[np.ndarray, "items dim"]
    half_life: float

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"rows": self.candidates.rows, "vectors": self.vectors}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        means = past_matrix(pasts, self.candidates, self.half_life) @ self.vectors
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        return (means / np.maximum(lengths, 1e-12)).astype(np.float32) @ self.vectors.T
