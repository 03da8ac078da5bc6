"""Whether a list has each category in the share that it has in what the person did (Steck 2018)."""

from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int64

__all__ = ["divergence", "miscalibration"]

_SMOOTHING: Final = 0.01


def miscalibration(
    lists: Int64[np.ndarray, "q k"],
    pasts: sp.csr_array,
    categories: Float32[np.ndarray, "items categories"],
    how: Literal["kl", "js"] = "js",
) -> Float64[np.ndarray, " q"]:
    """Divergence of each list's categories from those of its person's past; NaN where either has none.

    Args:
        lists: Places of candidates, -1 where a list is shorter.
        pasts: What each person did, a row of weights over the candidates; what speaks against an item counts nowhere.
        categories: Shares of the categories in each item.
        how: ``kl`` is Kullback-Leibler's, of a list smoothed by 1% of the past; ``js`` Jensen-Shannon's, from 0 to 1.

    """
    wanted = np.asarray(pasts.maximum(0) @ categories, dtype=np.float64)
    there = lists >= 0
    given = np.where(there[..., None], categories[lists], 0).sum(axis=1, dtype=np.float64)
    known = (wanted.sum(axis=1) > 0) & (given.sum(axis=1) > 0)
    found = np.full(len(lists), np.nan)
    p = wanted[known] / wanted[known].sum(axis=1, keepdims=True)
    q = given[known] / given[known].sum(axis=1, keepdims=True)
    found[known] = divergence(p, q, how)
    return found


def divergence(
    p: Float64[np.ndarray, "n categories"], q: Float64[np.ndarray, "n categories"], how: Literal["kl", "js"]
) -> Float64[np.ndarray, " n"]:
    """Divergence in bits of some distributions from others, row by row."""
    if how == "kl":
        return _kl(p, (1 - _SMOOTHING) * q + _SMOOTHING * p)
    middle = (p + q) / 2
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _kl(p: Float64[np.ndarray, "n c"], q: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, " n"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(p > 0, p * np.log2(p / q), 0.0).sum(axis=1)
