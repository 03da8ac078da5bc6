"""What a person turned down lowers what is like it, and leaves the rest alone."""

from typing import Final

import numpy as np
from jaxtyping import Float32

__all__ = ["LIKE", "losses"]

LIKE: Final = 0.1
"""Cosine from which an item counts as like one that was turned down: centred vectors of other subjects stay below."""


def losses(
    vectors: Float32[np.ndarray, "n dim"],
    against: Float32[np.ndarray, "h dim"],
    strengths: Float32[np.ndarray, "h"],
) -> Float32[np.ndarray, "n"]:
    """Return what items lose of their scores for being like things that were turned down.

    An item loses the strength of the thing it is most like, times how far their cosine goes beyond `LIKE`, from 0
    there to 1 for a copy. Items of other subjects lose nothing at all, so their order does not change.

    Args:
        vectors: Unit vectors of the items.
        against: Unit vectors of what was turned down.
        strengths: What a copy of each loses, 0 or more.

    """
    beyond = np.maximum(0, vectors @ against.T - LIKE) / (1 - LIKE)
    return (beyond * strengths).max(axis=1, initial=0).astype(np.float32)
