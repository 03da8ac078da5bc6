"""What is measured of one model: accuracy with intervals, what its lists are like, and for whom it works."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int64

from mmrec.evaluation import lists as of_lists
from mmrec.evaluation.accuracy import accuracy, mean_rank
from mmrec.evaluation.bootstrap import Interval, interval
from mmrec.evaluation.calibration import miscalibration
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.latency import Latency
from mmrec.evaluation.questions import Questions
from mmrec.evaluation.ranking import Ranked
from mmrec.evaluation.slices import ITEM_EDGES, PAST_EDGES, slices

__all__ = ["Asked", "Measured", "measure", "values_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
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
    ranked: Sequence[Ranked], asked: Asked, metrics: Sequence[str], chosen: str, took: Latency, *, draws: int
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


def _lists(lists: Int64[np.ndarray, "q k"], asked: Asked) -> dict[str, float]:
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
