"""Where a target comes among all items: full ranking, never sampled; used while training, to know when to stop."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

__all__ = ["mean_ndcg", "mid_ranks"]


def mid_ranks(
    scores: Float[Tensor, "n m"], targets: Int64[Tensor, " n"], left_out: Bool[Tensor, "n m"]
) -> Float64[np.ndarray, " n"]:
    """Rank of each target from 1, ties at their mean rank, among the items that are not left out."""
    own = scores.gather(1, targets.unsqueeze(1))
    competing = ~left_out
    competing.scatter_(1, targets.unsqueeze(1), False)
    above = ((scores > own) & competing).sum(dim=1)
    equal = ((scores == own) & competing).sum(dim=1)
    return (1 + above + equal / 2).double().cpu().numpy()


def mean_ndcg(ranks: Float64[np.ndarray, " n"], k: int = 10) -> float:
    """Mean of ``1 / log2(1 + rank)`` where the rank is k or better, with one relevant item each; 0 of none."""
    gains = np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)
    return float(gains.mean()) if len(gains) else 0.0
