"""Metrics of one model: accuracy, coverage, novelty, diversity, calibration, latency, and slices."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int64

from mmrec.evaluation import diversity_curve as of_lists
from mmrec.evaluation.bootstrap import Interval, interval
from mmrec.evaluation.metrics import accuracy, mean_rank
from mmrec.evaluation.questions import Candidates, Questions
from mmrec.evaluation.ranking import Ranked
from mmrec.evaluation.scorer import Scorer

_SMOOTHING: Final = 0.01


def miscalibration(
    lists: Int64[np.ndarray, "q k"],
    pasts: sp.csr_array,
    categories: Float32[np.ndarray, "items categories"],
    how: Literal["kl", "js"] = "js",
) -> Float64[np.ndarray, " q"]:
    """Divergence of each list's categories from those of its person's past; NaN where either has none.

    Args:
        lists: Places of candidates, -1 where a list is shorter.
        pasts: What each person did, a row of weights over the candidates; what speaks against an item counts nowhere.
        categories: Shares of the categories in each item.
        how: ``kl`` is Kullback-Leibler's, of a list smoothed by 1% of the past; ``js`` Jensen-Shannon's, from 0 to 1.

    """
    wanted = np.asarray(pasts.maximum(0) @ categories, dtype=np.float64)
    there = lists >= 0
    given = np.where(there[..., None], categories[lists], 0).sum(axis=1, dtype=np.float64)
    known = (wanted.sum(axis=1) > 0) & (given.sum(axis=1) > 0)
    found = np.full(len(lists), np.nan)
    p = wanted[known] / wanted[known].sum(axis=1, keepdims=True)
    q = given[known] / given[known].sum(axis=1, keepdims=True)
    found[known] = divergence(p, q, how)
    return found


def divergence(
    p: Float64[np.ndarray, "n categories"], q: Float64[np.ndarray, "n categories"], how: Literal["kl", "js"]
) -> Float64[np.ndarray, " n"]:
    """Divergence in bits of some distributions from others, row by row."""
    if how == "kl":
        return _kl(p, (1 - _SMOOTHING) * q + _SMOOTHING * p)
    middle = (p + q) / 2
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _kl(p: Float64[np.ndarray, "n c"], q: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, " n"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(p > 0, p * np.log2(p / q), 0.0).sum(axis=1)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over questions asked one at a time, in milliseconds."""

    p50: float
    p95: float
    p99: float


def latency(scorer: Scorer, questions: Questions, asked: int = 200, seed: int = 0) -> Latency:
    """Ask some of the questions one by one, drawn by the seed, after a few to warm up. NaN where there is none."""
    if not len(questions):
        return Latency(np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(seed).integers(len(questions), size=asked).tolist()
    for place in drawn[:5]:
        scorer.scores(questions.pasts([place]), questions.now[[place]])
    took = []
    for place in drawn:
        pasts, now = questions.pasts([place]), questions.now[[place]]
        started = time.perf_counter()
        scorer.scores(pasts, now)
        took.append(1000 * (time.perf_counter() - started))
    return Latency(*(float(value) for value in np.quantile(took, [0.5, 0.95, 0.99])))


PAST_EDGES: Final = (0, 1, 3, 5, 10, 20, 50, 100)
"""Where slices by the number of events known of a person begin."""

ITEM_EDGES: Final = (0, 1, 5, 20, 100, 500)
"""Where slices by the number of training events of the target begin."""


def slices(values: Int64[np.ndarray, " q"], edges: Sequence[int]) -> Mapping[str, Bool[np.ndarray, " q"]]:
    """Which questions lie between each two edges, the last slice being open; names are as ``3-4``, ``100+``."""
    found = {}
    for low, high in pairwise(edges):
        name = f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        found[name] = (values >= low) & (values < high)
    found[f"{edges[-1]}+"] = values >= edges[-1]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What all models are measured against.

    Attributes:
        questions: Those that all models answered.
        candidates: What was ranked.
        counts: Number of training events of each candidate.
        expected: Lists of the most popular items for the same questions, which surprise no one.
        pasts: What each person did, a row of weights over the candidates.

    """

    questions: Questions
    candidates: Candidates
    counts: Int64[np.ndarray, " items"]
    expected: Int64[np.ndarray, "q k"]
    pasts: sp.csr_array

    @property
    def targets(self) -> Int64[np.ndarray, " q"]:
        """Place of each question's target among the candidates."""
        return self.candidates.places(self.questions.live.items[self.questions.targets])


@dataclass(frozen=True, slots=True)
class Measured:
    """One model's row in every table.

    Attributes:
        name: The model's.
        seeds: Number of runs.
        metrics: By metric and cut-off, as ``ndcg@10``.
        rank: Mean rank of the target from 1, ties at the mean of their ranks.
        lists: What lists of the middle cut-off are like: ``coverage``, ``gini``, ``novelty`` in bits, ``popularity``,
            ``serendipity``, and where there are contents and categories ``diversity``, ``calibration_kl``,
            ``calibration_js``, both in bits.
        by_past: The chosen metric by the number of events known of the person.
        by_item: The same by the number of training events of the target.
        latency: Milliseconds for the scores of one question.
        at_once: Metrics of one list a person, made before their first target, of which all their targets are.
        cold_items: The chosen metric on items held out of training, and on the others; empty where none were.

    """

    name: str
    seeds: int
    metrics: Mapping[str, Interval]
    rank: float
    lists: Mapping[str, float]
    by_past: Mapping[str, Interval]
    by_item: Mapping[str, Interval]
    latency: Latency
    at_once: Mapping[str, Interval] = field(default_factory=dict)
    cold_items: Mapping[str, Interval] = field(default_factory=dict)


def values_of(metric: str, ranked: Sequence[Ranked]) -> Float64[np.ndarray, "seeds q"]:
    """A metric such as ``ndcg@10`` of each question, a row for each run."""
    name, _, k = metric.partition("@")
    return np.stack([accuracy(name, int(k), one.above, one.tied) for one in ranked])


def measure(
    ranked: Sequence[Ranked], asked: Measurement, metrics: Sequence[str], chosen: str, took: Latency, *, draws: int
) -> Measured:
    """Measure the runs of one model.

    Args:
        ranked: What each run answered.
        asked: What it is measured against.
        metrics: As ``ndcg@10``.
        chosen: The one of them that is shown by slices; lists are looked at down to its cut-off.
        took: How long it took.
        draws: How often people are drawn for an interval.

    """
    people = asked.questions.people
    values = values_of(chosen, ranked)
    known = slices(asked.questions.lengths, PAST_EDGES)
    met = slices(asked.counts[asked.targets], ITEM_EDGES)
    by_past, by_item = (
        {name: interval(values[:, some], people[some], draws=draws) for name, some in parts.items() if some.any()}
        for parts in (known, met)
    )
    k = int(chosen.partition("@")[2])
    seen = [_lists(one.lists[:, :k], asked) for one in ranked]
    return Measured(
        name=ranked[0].name,
        seeds=len(ranked),
        metrics={name: interval(values_of(name, ranked), people, draws=draws) for name in metrics},
        rank=float(np.mean([mean_rank(one.above, one.tied) for one in ranked])) if len(people) else np.nan,
        lists={name: float(np.mean([one[name] for one in seen])) for name in seen[0]},
        by_past=by_past,
        by_item=by_item,
        latency=took,
    )


def _lists(lists: Int64[np.ndarray, "q k"], asked: Measurement) -> dict[str, float]:
    items = asked.candidates
    found = {
        "coverage": of_lists.coverage(lists, len(items)),
        "gini": of_lists.gini(lists, len(items)),
        "novelty": _mean(of_lists.novelty(lists, asked.counts)),
        "popularity": _mean(of_lists.popularity(lists, asked.counts)),
        "serendipity": _mean(of_lists.serendipity(lists, asked.targets, asked.expected[:, : lists.shape[1]])),
    }
    if items.vectors is not None:
        found["diversity"] = _mean(of_lists.intra_list_diversity(lists, items.vectors))
    if items.categories is not None:
        for how in ("kl", "js"):
            found[f"calibration_{how}"] = _mean(miscalibration(lists, asked.pasts, items.categories, how))
    return found


def _mean(values: Float64[np.ndarray, " q"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
