"""How long one person waits for the scores of all candidates."""

import time
from dataclasses import dataclass

import numpy as np

from mmrec.evaluation.questions import Questions
from mmrec.evaluation.scorer import Scorer

__all__ = ["Latency", "latency"]


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
