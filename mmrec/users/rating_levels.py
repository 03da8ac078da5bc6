"""Strengths of ratings as a few levels, which a tower has an embedding for each of."""

from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

__all__ = ["RATING_LEVELS", "rating_levels"]

_EDGES: Final = (-1.0, 0.0, 0.75, 1.25)
RATING_LEVELS: Final = len(_EDGES) + 2
"""None, strongly against, against, weakly for, average, strongly for."""


def rating_levels(strengths: Float32[np.ndarray, " n"] | None, count: int) -> Int64[np.ndarray, " n"]:
    """Level of each of `count` events by its strength as a rating; 0 where it is none, or there are no strengths."""
    if strengths is None:
        return np.zeros(count, dtype=np.int64)
    return np.where(np.isnan(strengths), 0, 1 + np.digitize(strengths, _EDGES, right=True)).astype(np.int64)
