"""Putting scored rows in order: best first, equal scores by lower row number, absent ones last."""

from collections.abc import Sequence
from operator import gt

import numpy as np
from jaxtyping import Float32, Int64

from indexers.types import Neighbours

__all__ = ["NO_ROW", "merge", "ranked"]

NO_ROW = -1


def ranked(rows: Int64[np.ndarray, "q m"], scores: Float32[np.ndarray, "q m"], k: int) -> Neighbours:
    """Return the k best of m scored rows per query, padded where m < k. A score of -inf means no row."""
    if rows.shape[1] == k and _in_order(scores):
        return Neighbours(rows, scores)
    short = max(0, k - rows.shape[1])
    rows = np.pad(np.where(scores == -np.inf, NO_ROW, rows), ((0, 0), (0, short)), constant_values=NO_ROW)
    scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    return Neighbours(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _in_order(scores: Float32[np.ndarray, "q m"]) -> bool:
    """Whether all scores fall strictly and none is -inf."""
    if len(scores) == 1:  # a list is three times as quick as an array of ten
        one = scores[0].tolist()
        return one[-1] > -np.inf and all(map(gt, one, one[1:]))
    return bool((scores[:, -1] > -np.inf).all() and (scores[:, :-1] > scores[:, 1:]).all())


def merge(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the k best of several answers to the same queries, which hold different rows."""
    return ranked(
        np.concatenate([part.rows for part in parts], axis=1),
        np.concatenate([part.scores for part in parts], axis=1),
        k,
    )
