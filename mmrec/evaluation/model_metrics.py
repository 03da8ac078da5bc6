"""Metrics of one model: accuracy, coverage, novelty, diversity, calibration, latency, and slices."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int64

from mmrec.evaluation.bootstrap import Interval, interval
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.diversity_curve import (
    coverage,
    gini,
    intra_list_diversity,
    novelty,
    popularity,
    serendipity,
)
from mmrec.evaluation.metrics import mean_rank, single_target_metric
from mmrec.evaluation.ranking import RankedTargets
from mmrec.evaluation.scorer import Scorer

_SMOOTHING: Final = 0.01


def miscalibration(
    lists: Int64[np.ndarray, "q k"],
    histories: sp.csr_array,
    categories: Float32[np.ndarray, "items categories"],
    how: Literal["kl", "js"] = "js",
) -> Float64[np.ndarray, " q"]:
    """Divergence of each list's categories from those of the user's history; NaN where either has none.

    Lists are places of candidates, -1 where they are shorter; negative weights of a history do not count. ``kl`` is
    Kullback-Leibler, of a list smoothed by 1% of the history; ``js`` is Jensen-Shannon, from 0 to 1.
    """
    wanted = np.asarray(histories.maximum(0) @ categories, dtype=np.float64)
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
    """Percentiles over single cases, in milliseconds."""

    p50: float = np.nan
    p95: float = np.nan
    p99: float = np.nan


def latency(scorer: Scorer, cases: EvaluationCases, count: int = 200, seed: int = 0) -> Latency:
    """Time the scores of single cases, drawn by the seed, after a few to warm up. NaN where there is none."""
    if not len(cases):
        return Latency()
    drawn = np.random.default_rng(seed).integers(len(cases), size=count).tolist()
    for place in drawn[:5]:
        scorer.scores(cases.histories([place]), cases.now[[place]])
    took = []
    for place in drawn:
        histories, now = cases.histories([place]), cases.now[[place]]
        started = time.perf_counter()
        scorer.scores(histories, now)
        took.append(1000 * (time.perf_counter() - started))
    return Latency(*(float(value) for value in np.quantile(took, [0.5, 0.95, 0.99])))


HISTORY_EDGES: Final = (0, 1, 3, 5, 10, 20, 50, 100)
"""Where slices by the number of events known of a user begin."""

ITEM_EDGES: Final = (0, 1, 5, 20, 100, 500)
"""Where slices by the number of training events of the target begin."""


def slices(values: Int64[np.ndarray, " q"], edges: Sequence[int]) -> Mapping[str, Bool[np.ndarray, " q"]]:
    """Which cases lie between each two edges, the last slice being open; names are as ``3-4``, ``100+``."""
    found = {}
    for low, high in pairwise(edges):
        name = f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        found[name] = (values >= low) & (values < high)
    found[f"{edges[-1]}+"] = values >= edges[-1]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class MetricInputs:
    """What all models are measured against.

    `counts` are the training events of each candidate, `popular_lists` those of the most popular items for the same
    cases, the baseline of serendipity, and `histories` the weights of each user's events over the candidates.
    """

    cases: EvaluationCases
    candidates: Candidates
    counts: Int64[np.ndarray, " items"]
    popular_lists: Int64[np.ndarray, "q k"]
    histories: sp.csr_array

    @property
    def targets(self) -> Int64[np.ndarray, " q"]:
        """Place of each case's target among the candidates."""
        return self.candidates.places(self.cases.live.items[self.cases.targets])


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """Metrics of one model.

    Attributes:
        name: The model's.
        seeds: Number of runs.
        metrics: By metric and cut-off, as ``ndcg@10``.
        rank: Mean rank of the target from 1, ties at the mean of their ranks.
        lists: Of lists of the chosen metric's length: ``coverage``, ``gini``, ``novelty`` in bits, ``popularity``,
            ``serendipity``, and where there are contents and categories ``diversity``, ``calibration_kl``,
            ``calibration_js``, both in bits.
        by_history: The chosen metric by the number of events known of the user.
        by_item: The same by the number of training events of the target.
        latency: Milliseconds for the scores of one case.
        list_metrics: Metrics of one list a user, made before their first target, for all their targets.
        cold_items: The chosen metric on items held out of training, and on the others; empty where none were.

    """

    name: str
    seeds: int
    metrics: Mapping[str, Interval]
    rank: float
    lists: Mapping[str, float]
    by_history: Mapping[str, Interval]
    by_item: Mapping[str, Interval]
    latency: Latency = field(default_factory=Latency)
    list_metrics: Mapping[str, Interval] = field(default_factory=dict)
    cold_items: Mapping[str, Interval] = field(default_factory=dict)


def values_of(metric: str, ranked: Sequence[RankedTargets]) -> Float64[np.ndarray, "seeds q"]:
    """A metric such as ``ndcg@10`` of each case, a row for each run."""
    name, _, k = metric.partition("@")
    return np.stack([single_target_metric(name, int(k), one.above, one.tied) for one in ranked])


def measure_model(
    ranked: Sequence[RankedTargets], inputs: MetricInputs, metrics: Sequence[str], chosen: str, *, draws: int
) -> ModelMetrics:
    """Measure the runs of one model by metrics such as ``ndcg@10``.

    The chosen one is given by slices, and its cut-off is the length of the lists.
    """
    users, values = inputs.cases.users, values_of(chosen, ranked)
    by_history, by_item = (
        {name: interval(values[:, some], users[some], draws=draws) for name, some in parts.items() if some.any()}
        for parts in (slices(inputs.cases.lengths, HISTORY_EDGES), slices(inputs.counts[inputs.targets], ITEM_EDGES))
    )
    k = int(chosen.partition("@")[2])
    lists = [_list_metrics(one.lists[:, :k], inputs) for one in ranked]
    return ModelMetrics(
        name=ranked[0].name,
        seeds=len(ranked),
        metrics={name: interval(values_of(name, ranked), users, draws=draws) for name in metrics},
        rank=float(np.mean([mean_rank(one.above, one.tied) for one in ranked])) if len(users) else np.nan,
        lists={name: float(np.mean([one[name] for one in lists])) for name in lists[0]},
        by_history=by_history,
        by_item=by_item,
    )


def _list_metrics(lists: Int64[np.ndarray, "q k"], inputs: MetricInputs) -> dict[str, float]:
    items = inputs.candidates
    found = {
        "coverage": coverage(lists, len(items)),
        "gini": gini(lists, len(items)),
        "novelty": _mean(novelty(lists, inputs.counts)),
        "popularity": _mean(popularity(lists, inputs.counts)),
        "serendipity": _mean(serendipity(lists, inputs.targets, inputs.popular_lists[:, : lists.shape[1]])),
    }
    if items.vectors is not None:
        found["diversity"] = _mean(intra_list_diversity(lists, items.vectors))
    if items.categories is not None:
        for how in ("kl", "js"):
            found[f"calibration_{how}"] = _mean(miscalibration(lists, inputs.histories, items.categories, how))
    return found


def _mean(values: Float64[np.ndarray, " q"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan
