"""Ratings read as likes and dislikes: what a value such as three stars says about taste.

Users use a scale differently, and items differ in how well they are rated, so a rating is compared with what this user
would give this item if nothing were known of their taste. With mu the mean of all ratings of a store, of which r is one
by user u of item i,

    b_i = sum over the ratings s of i of (s - mu) / (n_i + 10)
    b_u = sum over the ratings s of u up to r of (s - mu - b_j) / (n_u + 10), where s is of item j
    z   = (r - mu - clip(b_i + b_u, -1 step, 1 step)) / step

as in the baseline predictor of Koren, "Factorization Meets the Neighborhood", KDD 2008, section 2.1. The tens shrink
the means of those who have few ratings towards the mean of the store: three ratings of 5 of 5 are no sign of a lenient
user. The clip keeps the ends of the scale what they are: the worst rating never counts as a like. A step is a quarter
of the scale, one star of five. b_u looks at no later rating: nothing that came after an event changes its strength.

The strength is what multiplies the weight of the event's kind: 1 + z above z = -1, twice that below, from -2 to 2.
An average rating counts in full (1), a rating of one step more twice; a rating of one step less counts nothing, and
lower ones count against the item. With the default weight of ``rate`` (2) that is from -4, a dislike, to 4, a like.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.events.event import EventArrays
from mmrec.events.kinds import Kinds

MIN_REASON_STRENGTH: Final = 0.5
"""Strength from which a rating may explain a recommendation: half a step below an average rating."""
MAX_STRENGTH: Final = 2.0
"""Strength of the best ratings; the worst have its negative."""

_SHRINKAGE: Final = 10.0
_STARS: Final = 5.0
_TEN: Final = 10.0
_STEPS: Final = 4.0


@dataclass(slots=True)
class RatingTotals:
    """Running sums of the ratings of one kind; `items` holds number and sum of the ratings of each item, by id."""

    items: dict[str, tuple[int, float]] = field(default_factory=dict)
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    def add(self, item: str, count: int, total: float, squares: float, ends: tuple[float, float]) -> None:
        """Add some ratings of an item; `ends` are the lowest and the highest of them."""
        before = self.items.get(item, (0, 0.0))
        self.items[item] = (before[0] + count, before[1] + total)
        self.count += count
        self.total += total
        self.squares += squares
        self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])


@dataclass(frozen=True, slots=True, eq=False)
class RatingScale:
    """How the ratings of one kind are read; see the top of this file.

    `step` is a quarter of the scale, 0 where all ratings are equal and the scale is unknown. `items` holds number and
    sum of the ratings of each item, by id. With a `threshold`, values from it on are likes and others dislikes; without
    one, ratings are relative to the means.
    """

    mean: float
    step: float
    items: Mapping[str, tuple[int, float]]
    threshold: float | None = None

    @classmethod
    def of(cls, totals: RatingTotals, threshold: float | None = None) -> "RatingScale":
        """Derive the scale from the sums of all ratings.

        Ratings up to 5 are taken for stars of five and ratings up to 10 for points of ten, even where nobody has used
        the ends of the scale. Of other scales, a few outliers do not stretch the step beyond a standard deviation.
        """
        if not totals.count:
            return cls(0.0, 0.0, {}, threshold)
        low, high = totals.low, totals.high
        mean = totals.total / totals.count
        spread = float(np.sqrt(max(0.0, totals.squares / totals.count - mean**2)))
        if low >= 0 and 1 < high <= _TEN:
            low, high = min(low, 1.0), _STARS if high <= _STARS else _TEN
            spread = np.inf
        middle, step = (low + high) / 2, min((high - low) / _STEPS, spread)
        mean = (totals.total + _SHRINKAGE * middle) / (totals.count + _SHRINKAGE)
        return cls(mean, step, totals.items, threshold)

    def shift(self, item: str) -> float:
        """How far an item is rated above the mean of all, shrunken."""
        count, total = self.items.get(item, (0, 0.0))
        return (total - count * self.mean) / (count + _SHRINKAGE)

    def strengths(
        self, values: Float64[np.ndarray, " n"], shifts: Float64[np.ndarray, " n"], users: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " n"]:
        """Strength of each rating, ordered by user and oldest first; `users` are the users' numbers."""
        if self.threshold is not None:
            return np.where(values >= self.threshold, MAX_STRENGTH, -MAX_STRENGTH).astype(np.float32)
        if not self.step:
            return np.ones(len(values), dtype=np.float32)
        own = _running_means(values - self.mean - shifts, users)
        expected = self.mean + np.clip(shifts + own, -self.step, self.step)
        levels = 1 + (values - expected) / self.step
        return np.clip(np.where(levels > 0, levels, 2 * levels), -MAX_STRENGTH, MAX_STRENGTH).astype(np.float32)


Ratings: TypeAlias = Mapping[str, RatingScale]
"""How the ratings of each kind that has any are read."""


def read_ratings(events: EventArrays, kinds: Kinds) -> Ratings:
    """Sum up the ratings of some events: those with a value whose kind is one of ratings."""
    scales = {}
    for code, name in enumerate(events.kind_names):
        which = (events.kinds == code) & ~np.isnan(events.values)
        if name not in kinds.ratings or not which.any():
            continue
        items, values = events.items[which], events.values[which].astype(np.float64)
        counts, sums = np.bincount(items), np.bincount(items, values)
        present = np.flatnonzero(counts)
        ids = events.item_ids.take(present).to_pylist()
        each = dict(zip(ids, zip(counts[present].tolist(), sums[present].tolist(), strict=True), strict=True))
        ends = float(values.min()), float(values.max())
        totals = RatingTotals(each, len(values), float(values.sum()), float((values**2).sum()), *ends)
        scales[name] = RatingScale.of(totals, kinds.ratings[name])
    return scales


def strengths_of(events: EventArrays, ratings: Ratings) -> Float32[np.ndarray, " n"]:
    """Strength of each event, in order of user and time, as a rating; NaN for other events."""
    found = np.full(len(events), np.nan, dtype=np.float32)
    for code, name in enumerate(events.kind_names):
        if name not in ratings:
            continue
        which = np.flatnonzero((events.kinds == code) & ~np.isnan(events.values))
        scale, items = ratings[name], events.items[which]
        present, places = np.unique(items, return_inverse=True)
        shifts = np.array([scale.shift(one) for one in events.item_ids.take(present).to_pylist()])[places]
        found[which] = scale.strengths(
            events.values[which].astype(np.float64), shifts, events.users[which].astype(np.int64)
        )
    return found


def strengths_of_user(
    ids: Sequence[str], kinds: Sequence[str], values: Sequence[float | None], ratings: Ratings
) -> Float32[np.ndarray, " n"]:
    """Strength of each event of one user, oldest first, as a rating; NaN for other events."""
    found = np.full(len(ids), np.nan, dtype=np.float32)
    given = np.array(values, dtype=np.float64)  # None becomes NaN
    for name, scale in ratings.items():
        which = np.flatnonzero((np.array(kinds, dtype=object) == name) & ~np.isnan(given))
        if len(which):
            shifts = np.array([scale.shift(ids[at]) for at in which.tolist()])
            found[which] = scale.strengths(given[which], shifts, np.zeros(len(which), dtype=np.int64))
    return found


def _running_means(values: Float64[np.ndarray, " n"], users: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Shrunken mean of each user's values up to each value."""
    if not len(values):
        return values
    first = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    counts = np.diff(np.append(first, len(values)))
    sums = np.cumsum(values)
    before = np.repeat(sums[first] - values[first], counts)
    numbers = np.arange(1, len(values) + 1) - np.repeat(first, counts)
    return np.asarray((sums - before) / (numbers + _SHRINKAGE))
