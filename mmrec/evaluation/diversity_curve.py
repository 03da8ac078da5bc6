"""Accuracy-diversity curve: lists re-ranked at several strengths of diversity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.lists import intra_list_diversity
from mmrec.evaluation.questions import Questions
from mmrec.evaluation.scorer import Scorer
from mmrec.ranking.diversify import diversify
from mmrec.unit import unit

__all__ = ["SETTINGS", "CurvePoint", "accuracy_diversity_curve"]


SETTINGS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DEPTH = 200
"""Candidates that a list is chosen from, as where lists are made to be shown."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Lists at one setting of the dial.

    Attributes:
        setting: Of the dial, 0 to 1.
        diversity: Mean intra-list diversity.
        ndcg: Mean NDCG of the target within the list.

    """

    setting: float
    diversity: float
    ndcg: float


def accuracy_diversity_curve(
    scorer: Scorer,
    questions: Questions,
    candidates: Candidates,
    settings: Sequence[float] = SETTINGS,
    *,
    k: int = 10,
    most: int = 2_000,
    seed: int = 0,
) -> list[CurvePoint]:
    """Make lists of k for questions, at most so many drawn by the seed, at each setting.

    What a person had met is left out. Raises UsageError where candidates have no vectors, or there is no question.
    """
    if candidates.vectors is None or not len(questions):
        raise UsageError("The dial needs candidates with vectors, and at least one question.")
    if len(questions) > most:
        questions = questions.take(np.sort(np.random.default_rng(seed).choice(len(questions), most, replace=False)))
    units = unit(candidates.vectors)
    lists = np.full((len(settings), len(questions), k), -1, dtype=np.int64)
    for start in range(0, len(questions), 256):
        some = range(start, min(start + 256, len(questions)))
        scores = scorer.scores(questions.pasts(some), questions.now[some.start : some.stop]).astype(np.float32)
        for line, place in enumerate(some):
            met = candidates.places(questions.met(place))
            scores[line, met[met >= 0]] = -np.inf
            top, relevance = _candidates(scores[line])
            for number, setting in enumerate(settings):
                chosen = top[diversify(relevance, units[top], k, setting)]
                lists[number, place, : len(chosen)] = chosen
    targets = candidates.places(questions.live.items[questions.targets])
    return [
        CurvePoint(
            setting, float(np.nanmean(intra_list_diversity(some, candidates.vectors))), float(_ndcg(some, targets))
        )
        for setting, some in zip(settings, lists, strict=True)
    ]


def _candidates(scores: Float32[np.ndarray, " items"]) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The best, best first, and their relevance from 1 down to 0."""
    top = np.argsort(-scores, kind="stable")[:DEPTH].astype(np.int64)
    top = top[np.isfinite(scores[top])]
    span = float(scores[top[0]] - scores[top[-1]]) if len(top) else 0.0
    if span <= 0:
        return top, np.ones(len(top), dtype=np.float32)
    return top, ((scores[top] - scores[top[-1]]) / span).astype(np.float32)


def _ndcg(lists: Int64[np.ndarray, "q k"], targets: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, ""] | np.floating:
    gains = 1 / np.log2(np.arange(2, lists.shape[1] + 2))
    return ((lists == targets[:, None]) * gains).sum(axis=1).mean()
