"""Removing what all contents of a block have in common: most of the gap between modalities."""

import numpy as np
from jaxtyping import Float32

from mmrec.unit import unit

__all__ = ["centre", "shrunken_mean"]

PRIOR_COUNT = 10
"""Contents' worth of belief that the mean is zero, so that a catalog of a few items is not centred into nothing."""


def shrunken_mean(vectors: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, " dim"]:
    """Mean of unit vectors, shrunk towards zero as if `PRIOR_COUNT` zero vectors had been seen too."""
    total = vectors.sum(axis=0, dtype=np.float64)
    return (total / (len(vectors) + PRIOR_COUNT)).astype(np.float32)


def centre(vectors: Float32[np.ndarray, "n dim"], mean: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, "n dim"]:
    """Subtract the mean and make unit vectors."""
    return unit(vectors - mean)
