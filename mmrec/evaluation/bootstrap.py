"""User-clustered bootstrap confidence intervals, paired comparisons, and Holm's correction for several of them.

The cases of one user depend on each other, so that users are resampled, with all their cases (Efron and Tibshirani
1993, chapter 8); runs of several seeds are resampled too. Two models are compared on the same resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import bootstrap

from mmrec.errors import UsageError

_DRAWS: Final = 2000
_LEVEL: Final = 0.95
# Users times draws whose sums are in memory at a time.
_ROOM: Final = 2**22


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over cases, and its 95% percentile interval; the ends are NaN below two users."""

    mean: float
    low: float
    high: float
    users: int
    cases: int

    @property
    def sign(self) -> int:
        """1 where the whole interval lies above zero, -1 where it lies below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of two models on the same cases: the mean of the first minus that of the second, with its interval.

    `p` is two-sided, from the share of resamples on the other side of zero; not corrected for other comparisons.
    """

    one: str
    other: str
    difference: Interval
    p: float


def interval(
    values: Float64[np.ndarray, "seeds q"], users: Int64[np.ndarray, " q"], *, draws: int = _DRAWS, seed: int = 0
) -> Interval:
    """Mean over seeds and cases, with its interval over users and, where there are several, over seeds.

    Equal seeds resample the same users.
    """
    ids, places = np.unique(users, return_inverse=True)
    if not values.size:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    low, high = _ends(_means(values, places, len(ids), draws, seed))
    return Interval(float(values.mean()), low, high, len(ids), values.shape[1])


def compare(
    named: tuple[str, str],
    one: Float64[np.ndarray, "seeds q"],
    other: Float64[np.ndarray, "others q"],
    users: Int64[np.ndarray, " q"],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same cases and resamples: the first minus the second.

    Runs are resampled too: as pairs where both models have as many, else on their own. Raises UsageError where there
    is nothing to compare.
    """
    if not one.size or not other.size:
        raise UsageError(f"{named[0]} and {named[1]} share no case to be compared on.")
    ids, places = np.unique(users, return_inverse=True)
    drawn = _means(one, places, len(ids), draws, seed) - _means(other, places, len(ids), draws, seed)
    low, high = _ends(drawn)
    mean = float(one.mean() - other.mean())
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (draws + 1)) if len(ids) > 1 else 1.0
    return Comparison(*named, Interval(mean, low, high, len(ids), one.shape[1]), p)


def before_and_after(
    before: Float64[np.ndarray, " q"], after: Float64[np.ndarray, " q"], users: Int64[np.ndarray, " q"], seed: int
) -> tuple[Interval, Interval, Interval]:
    """Intervals of a metric of one run before a change and after it, and of after minus before."""
    old, new = before[None], after[None]
    difference = compare(("after", "before"), new, old, users, seed=seed).difference
    return interval(old, users, seed=seed), interval(new, users, seed=seed), difference


def holm(ps: Sequence[float]) -> list[float]:
    """Correct for several comparisons by Holm's step-down (1979): the chance of a single false claim stays bounded."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = worst
    return adjusted


def _means(
    values: Float64[np.ndarray, "seeds q"], places: Int64[np.ndarray, " q"], users: int, draws: int, seed: int
) -> Float64[np.ndarray, " draws"]:
    """The mean of each resample: a quotient, as users have unlike numbers of cases; none below two users."""
    if users < 2:
        return np.empty(0)
    sums = np.stack([np.bincount(places, run, minlength=users) for run in values])  # (seeds, users)
    counts = np.bincount(places, minlength=users)

    def means(drawn: np.ndarray, axis: int) -> np.ndarray:
        return sums[:, drawn].sum(axis=axis) / counts[drawn].sum(axis=axis)

    found = bootstrap(
        (np.arange(users),),
        means,
        n_resamples=draws,
        batch=max(1, _ROOM // users),
        vectorized=True,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    runs = np.random.default_rng([seed, len(values)])
    shares = runs.multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws) / len(values)
    return (found.bootstrap_distribution * shares.T).sum(axis=0)


def _ends(means: Float64[np.ndarray, " draws"]) -> tuple[float, float]:
    if not len(means):
        return np.nan, np.nan
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
