"""The dial of diversity: from the order of relevance to items as unlike each other as can be."""

from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.ranking.dpp import greedy_dpp

__all__ = ["FEED", "WINDOW", "diversify"]

FEED: Final = 50
"""Beyond so many items a list is a feed: only its last `WINDOW` items repel the next."""
WINDOW: Final = 20


def diversify(
    relevance: Float32[np.ndarray, " n"], units: Float32[np.ndarray, "n dim"], k: int, diversity: float
) -> Int64[np.ndarray, " k"]:
    """Return the places of k candidates to show, in order; all of n where it is fewer.

    Args:
        relevance: From 1 down to 0, never rising: without any diversity the order is that of the candidates.
        units: Unit vectors; a zero vector is unlike everything.
        k: How many are shown.
        diversity: 0 for relevance alone, 1 for diversity alone.

    """
    if diversity == 0:
        return np.arange(min(k, len(relevance)), dtype=np.int64)
    return greedy_dpp(relevance, _with_common_part(units), k, diversity, WINDOW if k > FEED else None)


def _with_common_part(units: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim_and_one"]:
    """Return unit vectors whose cosine is (1 + cosine) / 2.

    The volume that nearly orthogonal vectors span hardly depends on their cosines; with a part in common it does, and
    opposites count as further apart than strangers.
    """
    return np.column_stack([units, np.ones(len(units), dtype=np.float32)]) / np.float32(np.sqrt(2))
