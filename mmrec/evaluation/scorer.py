"""Scorers of candidate items: models that score all items for a user, and user models as scorers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.cases import Candidates
from mmrec.events.histories import Histories
from mmrec.users.model import History, UserModel


@runtime_checkable
class Scorer(Protocol):
    """Scores every candidate for users at a time, without changing its state."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def scores(self, histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates for the known events of each user; higher is better, equal scores are ties.

        `now` is the time of each request in microseconds since 1970.
        """


@runtime_checkable
class Learner(Protocol):
    """Fits a scorer to the training part of a split."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Fit to training events and the candidates' contents."""


UNTIMED: Final = ", time not known"
"""Ends the name of a model that is given the time of the newest known event, not that of the request."""


@dataclass(frozen=True, eq=False)
class UserModelScorer:
    """Scores items by the inner product with the nearest of a user's interests.

    Attributes:
        cold: Scorer for users without interests; without one all their items are tied.
        timed: Whether the model is given the time of the request.

    """

    model: UserModel
    candidates: Candidates
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

    def scores(self, histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        scored = np.zeros((len(histories), len(self.candidates)), dtype=np.float32)
        known = [self._of_candidates(past) for past in histories]
        vectors = [self.vectors[self.candidates.places(past.rows)] for past in known]
        placed = self.model.users(known, vectors, now if self.timed else None)
        unknown = np.array([not len(interests.vectors) for interests in placed], dtype=bool)
        for line, interests in enumerate(placed):
            if not unknown[line]:
                scored[line] = (interests.vectors @ self.vectors.T).max(axis=0)
        if self.cold is not None and unknown.any():
            left = np.flatnonzero(unknown)
            scored[left] = self.cold.scores([histories[line] for line in left.tolist()], now[left])
        return scored

    def _of_candidates(self, past: History) -> History:
        there = self.candidates.places(past.rows) >= 0
        if there.all():
            return past
        kinds = tuple(kind for kind, keep in zip(past.kinds, there.tolist(), strict=True) if keep)
        strengths = None if past.strengths is None else past.strengths[there]
        return History(past.rows[there], kinds, past.weights[there], past.times[there], strengths)
