"""Relevant and unlike each other, by maximal marginal relevance: the nearest of those chosen before counts.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", SIGIR 1998.
"""

import numpy as np
from jaxtyping import Float32, Int64

__all__ = ["mmr"]


def mmr(
    relevance: Float32[np.ndarray, " n"],
    vectors: Float32[np.ndarray, "n dim"],
    k: int,
    diversity: float,
    window: int | None = None,
) -> Int64[np.ndarray, " k"]:
    """Choose places one by one, each time the greatest ``(1 - diversity) relevance - diversity likeness``.

    The likeness is the cosine with the nearest of those chosen before. Ties go to the earlier place.

    Args:
        relevance: From 0 to 1, higher is better.
        vectors: Unit vectors.
        k: How many are chosen; all of n where it is fewer.
        diversity: 0 orders by relevance alone, 1 by likeness alone.
        window: Only so many of the last choices repel; all if None.

    """
    count = min(k, len(relevance))
    wanted = (1 - diversity) * relevance
    free = np.ones(len(relevance), dtype=bool)
    chosen: list[int] = []
    likeness: list[np.ndarray] = []
    nearest = np.zeros(len(relevance), dtype=np.float32)
    for _ in range(count):
        best = int(np.where(free, wanted - diversity * nearest, -np.inf).argmax())
        chosen.append(best)
        free[best] = False
        latest = vectors @ vectors[best]
        if window is None:
            nearest = latest if len(chosen) == 1 else np.maximum(nearest, latest)
        elif window:
            likeness = [*likeness[-window + 1 :], latest] if window > 1 else [latest]
            nearest = np.max(likeness, axis=0)
    return np.array(chosen, dtype=np.int64)
