"""Whitening: contents that differ in few directions become ones that differ alike in all of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from mmrec.errors import UsageError

__all__ = ["Whitening", "fit_whitening"]

_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """An affine map of contents; for those it was fitted on, the parts of the result do not correlate.

    Attributes:
        mean: What is taken off first.
        matrix: What is multiplied with then; the mean square norm of the result is about 1.

    """

    mean: Float32[np.ndarray, " content"]
    matrix: Float32[np.ndarray, "content white"]


def fit_whitening(contents: Float[np.ndarray, "n content"], most: int) -> Whitening:
    """Fit on the contents of items, in float64; keep at most so many of the strongest directions.

    Directions that hardly vary are damped and not blown up: a thousandth of the mean variance is added to each. Raises
    UsageError where there are no items, or their contents are not finite.
    """
    if not len(contents) or not np.isfinite(contents).all():
        raise UsageError("Whitening needs the contents of one item at least, and all of them finite numbers.")
    exact = contents.astype(np.float64)
    mean = exact.mean(axis=0)
    covariance = np.cov(exact, rowvar=False, bias=True).reshape(exact.shape[1], exact.shape[1])
    variances, directions = np.linalg.eigh(covariance)
    kept = np.argsort(-variances, kind="stable")[: min(most, max(1, len(contents) - 1))]
    ridge = _RIDGE * max(float(np.mean(variances.clip(0))), 1e-30)
    scales = 1 / np.sqrt(len(kept) * (variances[kept].clip(0) + ridge))
    matrix = np.ascontiguousarray(directions[:, kept] * scales, dtype=np.float32)
    return Whitening(mean.astype(np.float32), matrix)
