"""What is evaluated: anything that scores all items for people, and whatever is fitted to become such a thing."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.evaluation.candidates import Candidates
from mmrec.events.histories import Histories
from mmrec.users.model import Past

__all__ = ["Learner", "Scorer", "state_digest"]


@runtime_checkable
class Scorer(Protocol):
    """Scores every candidate for a person at a moment; nothing it does changes it."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """All that was fitted and decides its scores, by name."""
        ...

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates, higher is better; equal scores say that it cannot tell them apart.

        Args:
            pasts: What each person did before.
            now: The moment at which each of them asks, microseconds since 1970.

        """
        ...


@runtime_checkable
class Learner(Protocol):
    """Fits a scorer to the training part of a split."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Fit to what may be learned from, and to the candidates' contents."""
        ...


def state_digest(scorer: Scorer) -> str:
    """SHA-256 of all that was fitted, in hex: what came after the cutoff must not change it."""
    seen = sha256()
    for name, array in sorted(scorer.state.items()):
        seen.update(repr((name, array.dtype.str, array.shape)).encode())
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
