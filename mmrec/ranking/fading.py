"""How far a list fades from what is popular to what is like the user's past, by what held-out events say that it helps.

An item's score is a mixture of its recent popularity p and its likeness c to the user's interests, each beside the
best of all candidates:

    s = (1 - a) sqrt(p / max p) + a max(0, c) / max c

The root keeps the few most popular items from having all the say. After n known events the share is

    a(n) = A n / (n + B),

which rises from 0, where nothing is known, towards A; after B events it is half of that. A and B are fitted. Of a
sample of users in the store's own log, the first 1, 3 and 10 events are known, and the next ten are held out. With d
the difference of a user's NDCG@10 under a(n) from that at a = 0, averaged over n, the pair is taken that has the
greatest

    mean of d over users - half of its standard error,

and of those level the one that trusts the past least. If none is above 0, A is 0: a share is taken only where held-out
events speak for it, and popularity is what is shrunken to. With fewer than thirty users to ask nothing is fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

COUNTS: Final = (1, 3, 10)
"""Numbers of known events that are asked after."""
LEAST: Final = 30
"""Users that must have been asked."""

_SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LIMITS: Final = tuple(np.linspace(0, 1, 21).tolist())
_HALVES: Final = (10.0, 3.0, 1.0, 0.0)
_TOP: Final = 10
_LEVEL: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question about held-out events.

    Attributes:
        user: Number of the user.
        known: Number of events known of the user.
        popularity: Popularity of each candidate at the moment; 0 for what nobody met.
        likeness: How well each matches the user; candidates that the user had met are not among them.
        targets: Places of the items that are right.
        missed: Number of right items that are no candidates.

    """

    user: int
    known: int
    popularity: Float32[np.ndarray, " n"]
    likeness: Float32[np.ndarray, " n"]
    targets: Int64[np.ndarray, " t"]
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Fading:
    """Share of the user's past in a list.

    Attributes:
        limit: Share after many events, A: 0 for what is popular alone, 1 for the past alone.
        half: Number of events after which it is half of that, B.

    """

    limit: float
    half: float

    def share(self, known: int) -> float:
        """Share after a number of events; 0 after none."""
        return 0.0 if known < 1 else self.limit / (1 + self.half / known)


def mixed(
    popularity: Float32[np.ndarray, " n"], likeness: Float32[np.ndarray, " n"], share: float
) -> Float32[np.ndarray, " n"]:
    """Score candidates; see the top of this file."""
    popular = np.sqrt(np.maximum(0, popularity) / max(1e-9, float(popularity.max(initial=0))))
    alike = np.maximum(0, likeness) / max(1e-9, float(likeness.max(initial=0)))
    return ((1 - share) * popular + share * alike).astype(np.float32)


def fit_fading(asked: Sequence[Asked]) -> Fading | None:
    """Fit the shares to held-out events; None where there are too few."""
    _, users = np.unique([one.user for one in asked], return_inverse=True)
    if not len(users) or users.max() + 1 < LEAST:
        return None
    ahead = np.array([_gains(one) for one in asked])
    ahead -= ahead[:, :1]
    best, found = 0.0, Fading(0.0, 0.0)
    for limit in _LIMITS:
        for half in _HALVES:
            fading = Fading(limit, half)
            each = [np.interp(fading.share(one.known), _SHARES, line) for one, line in zip(asked, ahead, strict=True)]
            means = np.bincount(users, each) / np.bincount(users)
            bound = float(means.mean() - means.std() / np.sqrt(len(means)) / 2)
            if bound > best + _LEVEL:
                best, found = bound, fading
    return found


def _gains(one: Asked) -> list[float]:
    """NDCG@10 at each share, ties at their mean rank, averaged over the items that are right."""
    found = []
    for share in _SHARES:
        scores = mixed(one.popularity, one.likeness, share)
        own = scores[one.targets][:, None]
        ranks = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
        gains = np.where(ranks <= _TOP, 1 / np.log2(1 + ranks), 0.0)
        found.append(float(gains.sum()) / (len(one.targets) + one.missed))
    return found
