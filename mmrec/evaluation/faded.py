"""What recommends where nothing was trained: recent popularity that fades to the user's interests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.scorer import Scorer
from mmrec.evaluation.user_model import UserModelScorer
from mmrec.events.histories import Histories
from mmrec.events.kinds import Kinds
from mmrec.events.openings import DecayedPopularity, Opening, openings
from mmrec.ranking.fading import COUNTS, Asked, Fading, fit_fading, mixed
from mmrec.users.model import Past

__all__ = ["FadedScorer", "fit_faded"]

_PEOPLE = 100


@dataclass(frozen=True, eq=False)
class FadedScorer:
    """Mixes what is popular and what is like the past, by the shares that held-out events of training call for.

    Attributes:
        interests: Places users by their past.
        popular: Popularity at the moment of asking.
        fading: The shares.
        name: What it is called in tables.

    """

    interests: UserModelScorer
    popular: Scorer
    fading: Fading
    name: str

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """Where the items lie, the shares, and what is popular."""
        return {**self.popular.state, **self.interests.state, "fading": np.array([self.fading.limit, self.fading.half])}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        scored = self.popular.scores(pasts, now)
        shares = [self.fading.share(len(past)) for past in pasts]
        some = np.flatnonzero(shares)
        likeness = self.interests.scores([pasts[line] for line in some.tolist()], now[some])
        for line, alike in zip(some.tolist(), likeness, strict=True):
            scored[line] = mixed(scored[line], alike, shares[line])
        return scored


def fit_faded(
    train: Histories, candidates: Candidates, kinds: Kinds, interests: UserModelScorer, popular: Scorer
) -> Scorer:
    """Fit the shares to the openings of users of the training part; the interests alone where there are too few."""
    weights = train.weights(kinds.weights)
    popularity = DecayedPopularity(train, weights, candidates.rows)
    asked = []
    for one in openings(train, weights, COUNTS, _PEOPLE):
        question = _asked(one, train, weights, interests, popularity)
        if question is not None:
            asked.append(question)
    fading = fit_fading(asked)
    return interests if fading is None else FadedScorer(interests, popular, fading, interests.name)


def _asked(
    one: Opening,
    train: Histories,
    weights: Float32[np.ndarray, " n"],
    interests: UserModelScorer,
    popularity: DecayedPopularity,
) -> Asked | None:
    candidates, at = interests.candidates, one.past
    kinds = tuple(train.kind_names[kind] for kind in train.kinds[at].tolist())
    strengths = None if train.strengths is None else train.strengths[at]
    past = Past(train.items[at], kinds, weights[at], train.times[at], strengths)
    places = candidates.places(one.targets)
    left = np.setdiff1d(np.arange(len(candidates)), candidates.places(past.rows))
    targets = np.searchsorted(left, places[places >= 0])
    if not len(targets):
        return None
    likeness = interests.scores([past], np.array([one.moment]))[0]
    return Asked(
        one.person, one.known, popularity.at(one.moment)[left], likeness[left], targets, int((places < 0).sum())
    )
