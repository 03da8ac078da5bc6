"""How alike two lists of a query are, and which of them is nearer to what is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from mmrec.evaluation.accuracy import of_several
from mmrec.evaluation.bootstrap import Interval, compare, interval

__all__ = ["Measure", "Quality", "overlap", "quality_of"]

Word = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of two generations, over the same queries.

    Attributes:
        metric: As ``ndcg@10``; ``r`` is the share of queries with any right item among so many.
        one: The first generation's.
        other: The second's.
        difference: The second's minus the first's, with its paired interval.

    """

    metric: str
    one: Interval
    other: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class Quality:
    """What the lists are worth.

    Attributes:
        measures: The figures; that by which the word was found comes first.
        word: Whether the second generation is ``better`` or ``worse``, or there is ``no difference``.

    """

    measures: tuple[Measure, ...]
    word: Word


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of the longer of two lists that is in both; two empty ones are alike."""
    longer = max(len(one), len(other))
    return len(set(one) & set(other)) / longer if longer else 1.0


def quality_of(
    one: Sequence[Sequence[int]],
    other: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    units: Int64[np.ndarray, " q"],
    k: int,
    seed: int = 0,
) -> Quality:
    """Measure two lists for each query against what is right.

    NDCG@k alone decides, so that nothing is claimed because one of several figures happened to be high: better where
    the whole 95% interval of the paired difference lies above zero, worse where it lies below.

    Args:
        one: Rows that the first generation found for each query, best first, k at most.
        other: Those of the second.
        right: The rows that are right, at least one a query.
        units: Queries of one unit are one witness, drawn together.
        k: Cut-off.
        seed: Of the draws.

    """
    measures = []
    for name, metric, cut in (("ndcg", "ndcg", k), ("mrr", "mrr", k), ("r", "hr", 1), ("r", "hr", k)):
        was, now = (_each(lists, right, metric, cut)[None] for lists in (one, other))
        difference = compare(("other", "one"), now, was, units, seed=seed).difference
        ends = interval(was, units, seed=seed), interval(now, units, seed=seed)
        measures.append(Measure(f"{name}@{cut}", *ends, difference))
    unlike = {measure.metric: measure for measure in measures}  # at k = 1 one of them is there twice
    return Quality(tuple(unlike.values()), _word(measures[0].difference))


def _each(
    lists: Sequence[Sequence[int]], right: Sequence[Sequence[int]], metric: str, cut: int
) -> Float64[np.ndarray, " q"]:
    found = []
    for rows, wanted in zip(lists, right, strict=True):
        places = {row: rank for rank, row in enumerate(rows, 1)}
        # What was not found ranks below any cut-off.
        ranks = np.array([places.get(row, np.inf) for row in wanted], dtype=np.float64)
        found.append(of_several(metric, cut, ranks))
    return np.array(found, dtype=np.float64)


def _word(difference: Interval) -> Word:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference"
