"""How sure a figure is: people drawn again and again, with all their questions, and runs of several seeds with them.

A person's questions depend on each other, so that people are drawn and not questions (Efron and Tibshirani 1993,
chapter 8). Two models are compared on the same draws: what is hard for one is mostly hard for the other, and falls out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from mmrec.errors import UsageError

_DRAWS: Final = 2000
_LEVEL: Final = 0.95
# People times draws whose counts are in memory at a time.
_ROOM: Final = 2**22


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions, and the interval that holds 95% of the draws; its ends are NaN below two people."""

    mean: float
    low: float
    high: float
    people: int
    questions: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much higher one model is than another, on the same questions.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        difference: The mean of the first minus that of the second, with its interval.
        p: Two-sided, from the share of draws on the other side of zero; not yet corrected for other comparisons.

    """

    one: str
    other: str
    difference: Interval
    p: float

    @property
    def above(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.difference.low > 0

    @property
    def not_below(self) -> bool:
        """Whether the interval includes or exceeds zero."""
        return self.difference.high >= 0


def interval(
    values: Float64[np.ndarray, "seeds q"], people: Int64[np.ndarray, " q"], *, draws: int = _DRAWS, seed: int = 0
) -> Interval:
    """Mean over seeds and questions, with its interval over people and, where there are several, over seeds.

    Args:
        values: A metric of each question, a row for each run of the model.
        people: Who asked each question.
        draws: How often people are drawn.
        seed: Of the draws; equal seeds draw the same people.

    """
    ids, places = np.unique(people, return_inverse=True)
    if not values.size:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    means = _means(values, places, len(ids), draws, seed)
    low, high = _ends(means) if len(ids) > 1 else (np.nan, np.nan)
    return Interval(float(values.mean()), low, high, len(ids), values.shape[1])


def compare(
    named: tuple[str, str],
    one: Float64[np.ndarray, "seeds q"],
    other: Float64[np.ndarray, "others q"],
    people: Int64[np.ndarray, " q"],
    *,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same questions: the first minus the second, on the same people in each draw.

    Runs are drawn too: as pairs where both models have as many, else on their own. Raises UsageError where there is
    nothing to compare.
    """
    if not one.size or not other.size:
        raise UsageError(f"{named[0]} and {named[1]} share no question to be compared on.")
    ids, places = np.unique(people, return_inverse=True)
    drawn = _means(one, places, len(ids), draws, seed) - _means(other, places, len(ids), draws, seed)
    low, high = _ends(drawn) if len(ids) > 1 else (np.nan, np.nan)
    mean = float(one.mean() - other.mean())
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (draws + 1)) if len(ids) > 1 else 1.0
    return Comparison(*named, Interval(mean, low, high, len(ids), one.shape[1]), p)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct for several comparisons by Holm's step-down (1979): the chance of a single false claim stays bounded."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = worst
    return adjusted


def _means(
    values: Float64[np.ndarray, "seeds q"], places: Int64[np.ndarray, " q"], people: int, draws: int, seed: int
) -> Float64[np.ndarray, " draws"]:
    """The mean of each draw: a quotient, as people ask unlike numbers of questions."""
    sums = np.stack([np.bincount(places, run, minlength=people) for run in values])  # (seeds, people)
    asked = np.bincount(places, minlength=people)
    runs = np.random.default_rng([seed, len(values)])
    found = []
    for chosen in _draws(people, draws, seed):
        share = runs.multinomial(len(values), np.full(len(values), 1 / len(values)), size=len(chosen)) / len(values)
        found.append(((chosen @ sums.T) * share).sum(axis=1) / (chosen @ asked))
    return np.concatenate(found)


def _draws(people: int, draws: int, seed: int) -> Iterator[Float64[np.ndarray, "some people"]]:
    """How often each person is in each draw, some draws at a time."""
    drawn = np.random.default_rng(seed)
    size = max(1, _ROOM // people)
    for start in range(0, draws, size):
        some = min(size, draws - start)
        picks = drawn.integers(people, size=(some, people))
        picks += people * np.arange(some)[:, None]
        yield np.bincount(picks.ravel(), minlength=some * people).reshape(some, people).astype(np.float64)


def _ends(drawn: Float64[np.ndarray, " draws"]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
