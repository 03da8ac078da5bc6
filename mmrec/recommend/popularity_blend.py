"""Blend popularity with similarity to a user's history, by shares that are fitted to held-out events.

An item's score is a mixture of its recent popularity p and its similarity c to the user's interests, each relative to
the best of all candidates:

    s = (1 - a) sqrt(p / max p) + a max(0, c) / max c

The root keeps the few most popular items from dominating. After n known events the share of the similarity is

    a(n) = A n / (n + B),

which rises from 0, where nothing is known, towards A; after B events it is half of that. A and B are fitted. Of a
sample of users in the store's own log, the first 1, 3 and 10 events are known, and the next ten are held out. With d
the difference of a user's NDCG@10 under a(n) from that at a = 0, averaged over n, the pair is taken that has the
greatest

    mean of d over users - half of its standard error,

and of equal ones the one with the smallest shares. If none is above 0, A is 0: similarity is used only where held-out
events show that it helps. With fewer than thirty users nothing is fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.evaluation.metrics import discounted_gain, mean_rank, rank_counts

KNOWN_EVENTS: Final = (1, 3, 10)
"""Numbers of known events that are evaluated."""
MIN_USERS: Final = 30
"""Users that a fit needs."""

_SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LIMITS: Final = tuple(np.linspace(0, 1, 21).tolist())
_HALVES: Final = (10.0, 3.0, 1.0, 0.0)
_TOP: Final = 10
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutEvents:
    """A user after some known events, with held-out ones.

    `popularity` of each candidate is that at the time, 0 without events. Items of the known events are no candidates.
    `targets` are the positions of the held-out items among the candidates; `missed` others are none.
    """

    user: int
    known: int
    popularity: Float32[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]
    targets: Int64[np.ndarray, " t"]
    missed: int = 0


@dataclass(frozen=True, slots=True)
class PopularityBlend:
    """Share of the similarity to a user's history.

    A, the `limit`, after many events, and B, after which it is half of A.
    """

    limit: float
    half: float

    def share(self, known: int) -> float:
        """Share after a number of events; 0 after none."""
        return 0.0 if known < 1 else self.limit / (1 + self.half / known)


def blended_scores(
    popularity: Float32[np.ndarray, " n"], similarity: Float32[np.ndarray, " n"], share: float
) -> Float32[np.ndarray, " n"]:
    """Score candidates; see the top of this file."""
    popular = np.sqrt(np.maximum(0, popularity) / max(1e-9, float(popularity.max(initial=0))))
    similar = np.maximum(0, similarity) / max(1e-9, float(similarity.max(initial=0)))
    return ((1 - share) * popular + share * similar).astype(np.float32)


def fit_popularity_blend(held_out: Sequence[HeldOutEvents]) -> PopularityBlend | None:
    """Fit the shares to held-out events; None where there are too few users."""
    _, users = np.unique([one.user for one in held_out], return_inverse=True)
    if not len(users) or users.max() + 1 < MIN_USERS:
        return None
    gains = np.array([_ndcg_by_share(one) for one in held_out])
    gains -= gains[:, :1]
    best, found = 0.0, PopularityBlend(0.0, 0.0)
    for limit in _LIMITS:
        for half in _HALVES:
            blend = PopularityBlend(limit, half)
            each = [np.interp(blend.share(one.known), _SHARES, row) for one, row in zip(held_out, gains, strict=True)]
            means = np.bincount(users, each) / np.bincount(users)
            bound = float(means.mean() - means.std() / np.sqrt(len(means)) / 2)
            if bound > best + _TOLERANCE:
                best, found = bound, blend
    return found


def _ndcg_by_share(one: HeldOutEvents) -> list[float]:
    """NDCG@10 at each share, ties at their mean rank, averaged over the held-out items."""
    found = []
    for share in _SHARES:
        scores = blended_scores(one.popularity, one.similarity, share)
        ranks = mean_rank(*rank_counts(scores, scores[one.targets][:, None]))
        found.append(float(discounted_gain(ranks, _TOP).sum()) / (len(one.targets) + one.missed))
    return found
