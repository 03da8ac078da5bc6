"""Recommended lists, and the accuracy-diversity curve: lists re-ranked at several strengths of diversity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.metrics import discounted_gain
from mmrec.evaluation.scorer import Scorer
from mmrec.recommend.diversify import diversify
from mmrec.unit import unit

Lists = Int64[np.ndarray, "q k"]


def coverage(lists: Lists, items: int) -> float:
    """Share of all candidates that are in any list."""
    return len(np.unique(lists[lists >= 0])) / items if items else 0.0


def gini(lists: Lists, items: int) -> float:
    """Gini coefficient of how often candidates are shown: 0 where all alike, near 1 where few take all."""
    shown = np.sort(np.bincount(lists[lists >= 0], minlength=items)).astype(np.float64)
    if not shown.sum():
        return 0.0
    return float(((2 * np.arange(1, items + 1) - items - 1) * shown).sum() / (items * shown.sum()))


def intra_list_diversity(lists: Lists, vectors: Float32[np.ndarray, "items dim"]) -> Float64[np.ndarray, " q"]:
    """Mean of one minus the cosine over all pairs of a list (Ziegler et al. 2005); NaN where there is no pair.

    Vectors of any length count as unit vectors; an item without content has a zero one, and is like nothing.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    found = np.full(len(lists), np.nan)
    for start in range(0, len(lists), 1024):
        some = lists[start : start + 1024]
        there = some >= 0
        chosen = np.where(there[..., None], vectors[some], 0).astype(np.float64)  # (q, k, dim)
        # The sum over all pairs is the squared length of the sum, less the items with themselves.
        like = np.square(chosen.sum(axis=1)).sum(axis=1) - np.square(chosen).sum(axis=(1, 2))
        pairs = there.sum(axis=1) * (there.sum(axis=1) - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + 1024] = np.where(pairs > 0, 1 - like / pairs, np.nan)
    return found


def novelty(lists: Lists, counts: Int64[np.ndarray, " items"]) -> Float64[np.ndarray, " q"]:
    """Mean self-information in bits: -log2 of an item's share of all training events (Zhou et al. 2010).

    One event is added to each item, so that those without events are finite, and the most novel of all.
    """
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return _mean(bits, lists)


def popularity(lists: Lists, counts: Int64[np.ndarray, " items"]) -> Float64[np.ndarray, " q"]:
    """Mean number of training events of what is recommended (ARP, Yin et al. 2012)."""
    return _mean(counts.astype(np.float64), lists)


def serendipity(lists: Lists, targets: Int64[np.ndarray, " q"], primitive: Lists) -> Float64[np.ndarray, " q"]:
    """Whether a list has the target, and one of a primitive model, such as popularity, does not (Ge et al. 2010)."""
    right = (lists == targets[:, None]).any(axis=1)
    obvious = (primitive == targets[:, None]).any(axis=1)
    return (right & ~obvious).astype(np.float64)


def _mean(values: Float64[np.ndarray, " items"], lists: Lists) -> Float64[np.ndarray, " q"]:
    there = lists >= 0
    total = np.where(there, values[lists], 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there.any(axis=1), total / there.sum(axis=1), np.nan)


SETTINGS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DEPTH = 200
"""Candidates that a list is chosen from, as where lists are made to be shown."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Mean intra-list diversity, and mean NDCG of the target within the list, at one strength of diversity, 0 to 1."""

    setting: float
    diversity: float
    ndcg: float


def accuracy_diversity_curve(
    scorer: Scorer,
    cases: EvaluationCases,
    candidates: Candidates,
    settings: Sequence[float] = SETTINGS,
    *,
    k: int = 10,
    most: int = 2_000,
    seed: int = 0,
) -> list[CurvePoint]:
    """Make lists of k for cases, at most so many drawn by the seed, at each setting, without items seen before.

    Raises UsageError where candidates have no vectors, or there is no case.
    """
    if candidates.vectors is None or not len(cases):
        raise UsageError("An accuracy-diversity curve needs candidates with vectors, and at least one case.")
    if len(cases) > most:
        cases = cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), most, replace=False)))
    units = unit(candidates.vectors)
    lists = np.full((len(settings), len(cases), k), -1, dtype=np.int64)
    for start in range(0, len(cases), 256):
        some = range(start, min(start + 256, len(cases)))
        scores = scorer.scores(cases.histories(some), cases.now[some.start : some.stop]).astype(np.float32)
        for line, place in enumerate(some):
            seen = candidates.places(cases.seen(place))
            scores[line, seen[seen >= 0]] = -np.inf
            top, relevance = _candidates(scores[line])
            for number, setting in enumerate(settings):
                chosen = top[diversify(relevance, units[top], k, setting)]
                lists[number, place, : len(chosen)] = chosen
    targets = candidates.places(cases.live.items[cases.targets])
    gains = (lists == targets[:, None]) * discounted_gain(np.arange(1, k + 1), k)  # (settings, cases, k)
    diversity = [float(np.nanmean(intra_list_diversity(some, candidates.vectors))) for some in lists]
    return list(map(CurvePoint, settings, diversity, gains.sum(axis=2).mean(axis=1).tolist()))


def _candidates(scores: Float32[np.ndarray, " items"]) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The best, best first, and their relevance from 1 down to 0."""
    top = np.argsort(-scores, kind="stable")[:DEPTH].astype(np.int64)
    top = top[np.isfinite(scores[top])]
    span = float(scores[top[0]] - scores[top[-1]]) if len(top) else 0.0
    if span <= 0:
        return top, np.ones(len(top), dtype=np.float32)
    return top, ((scores[top] - scores[top[-1]]) / span).astype(np.float32)
