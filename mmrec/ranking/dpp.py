"""Relevant and unlike each other, by a determinantal point process: the volume that a list spans counts.

The greedy choice grows a Cholesky factor by one row a pick instead of taking determinants: Chen, Zhang and Zhou, "Fast
Greedy MAP Inference for Determinantal Point Process", NeurIPS 2018, algorithm 1, and its window for long feeds.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64

__all__ = ["FLOOR", "greedy_dpp"]

FLOOR: Final = 1e-6
"""Squared distance below which an item counts as a copy of what was chosen: float32 vectors know no finer one."""


def greedy_dpp(
    relevance: Float32[np.ndarray, " n"],
    vectors: Float32[np.ndarray, "n dim"],
    k: int,
    diversity: float,
    window: int | None = None,
) -> Int64[np.ndarray, " k"]:
    """Choose places one by one, each time the greatest ``(1 - diversity) relevance + diversity log(distance)``.

    The distance is that from the span of the vectors chosen so far, so that with kernel ``q_i q_j v_i v_j`` and
    ``log q`` proportional to relevance each choice gains the most of the log-determinant. Ties go to the earlier place.

    Args:
        relevance: From 0 to 1, higher is better.
        vectors: Unit vectors.
        k: How many are chosen; all of n where it is fewer.
        diversity: 0 orders by relevance alone, 1 by distance alone.
        window: Only so many of the last choices repel; all if None. Beyond as many choices as there are dimensions
            nothing is left that is far from all, so a long feed needs one.

    """
    count = min(k, len(relevance))
    seen = count if window is None else window
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.einsum("nd,nd->n", wide, wide)
    left = lengths
    wanted = (1 - diversity) * np.asarray(relevance, dtype=np.float64)
    free = np.ones(len(wide), dtype=bool)
    alike = np.zeros((count, len(wide)))
    rows = np.zeros((min(seen, count), len(wide)))
    chosen: list[int] = []
    for turn in range(count):
        gain = np.where(free, wanted + diversity / 2 * np.log(np.maximum(left, FLOOR)), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        free[best] = False
        alike[turn] = wide @ wide[best]
        if turn < seen:
            rows[turn] = (alike[turn] - rows[:turn, best] @ rows[:turn]) / np.sqrt(max(left[best], FLOOR))
            left = left - rows[turn] ** 2
        else:
            left = _distances(lengths, alike[turn - seen + 1 : turn + 1], chosen[-seen:])
    return np.array(chosen, dtype=np.int64)


def _distances(
    lengths: Float64[np.ndarray, " n"], alike: Float64[np.ndarray, "w n"], chosen: list[int]
) -> Float64[np.ndarray, " n"]:
    """Squared distance of each vector from the span of some, made anew: LAPACK is faster at it than single updates."""
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415 - opening a store needs no SciPy

    lower = cholesky(alike[:, chosen] + FLOOR * np.eye(len(chosen)), lower=True)
    across = solve_triangular(lower, alike, lower=True)
    return lengths - np.einsum("wn,wn->n", across, across)
