"""Scorers of candidate items: models that score all items for a user, and user models as scorers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.questions import Candidates
from mmrec.events.histories import Histories
from mmrec.users.model import History, Interests, UserModel


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

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
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


UNTIMED: Final = ", time not known"
"""Ends the name of a model that is asked as of the newest event it knows, not as of the moment of the request."""


@dataclass(frozen=True, eq=False)
class UserModelScorer:
    """Scores items by the inner product with a person's interests.

    Attributes:
        model: Places items and people.
        candidates: Items with content vectors.
        merge: How several interests make one score: that of the nearest (``max``), or the mean by their weights
            (``mean``).
        cold: Who answers for people of whom the model says nothing; without one their items are all level.
        timed: Whether the model is told the moment of asking.

    """

    model: UserModel
    candidates: Candidates
    merge: Literal["max", "mean"] = "max"
    cold: Scorer | None = None
    timed: bool = True
    name: str = field(default="")

    def __post_init__(self) -> None:
        """Take the model's name where none is given. Raises UsageError where there are no contents."""
        if self.candidates.vectors is None:
            raise UsageError("A user model places items by their contents: give candidates that have vectors.")
        if not self.name:
            object.__setattr__(self, "name", self.model.name)

    @cached_property
    def vectors(self) -> Float32[np.ndarray, "items dim"]:
        """Where the model places the candidates."""
        contents = self.candidates.vectors
        assert contents is not None  # noqa: S101 - checked when it was made
        return self.model.items(self.candidates.rows, contents)

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """Where the items lie; what the model makes of people is not seen here."""
        return {"vectors": self.vectors}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        scored = np.zeros((len(pasts), len(self.candidates)), dtype=np.float32)
        placed = self._people(pasts, now)
        unknown = np.array([not len(interests.vectors) for interests in placed], dtype=bool)
        for line, interests in enumerate(placed):
            if not unknown[line]:
                scored[line] = self._score(interests)
        if self.cold is not None and unknown.any():
            left = np.flatnonzero(unknown)
            scored[left] = self.cold.scores([pasts[line] for line in left.tolist()], now[left])
        return scored

    def _score(self, interests: Interests) -> Float32[np.ndarray, " items"]:
        near = interests.vectors @ self.vectors.T
        return near.max(axis=0) if self.merge == "max" else interests.weights @ near

    def _people(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> list[Interests]:
        known = [self._of_candidates(past) for past in pasts]
        vectors = [self.vectors[self.candidates.places(past.rows)] for past in known]
        return self.model.users(known, vectors, now if self.timed else None)

    def _of_candidates(self, past: History) -> History:
        there = self.candidates.places(past.rows) >= 0
        if there.all():
            return past
        kinds = tuple(kind for kind, keep in zip(past.kinds, there.tolist(), strict=True) if keep)
        strengths = None if past.strengths is None else past.strengths[there]
        return History(past.rows[there], kinds, past.weights[there], past.times[there], strengths)
