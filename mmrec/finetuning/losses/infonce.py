"""InfoNCE: each vector is to tell its partner from everything else that the batch holds.

Method. A batch holds n pairs (a_i, b_i) of unit vectors. With inverse temperature t, learned with the weights, and
s_ij = t <a_i, b_j>, the loss of pair i is the mean of two cross entropies, one a direction:

    l_i = 1/2 [ log sum_j exp(s_ij) - s_ii ]  +  1/2 [ log sum_j exp(s_ji) - s_ii ]

What is left out of the sums: j with ``same[i, j]``, where the contents of j are those of i on either side. Such a j is
no mistake if found, and pushing it away would undo what pair j itself teaches. Further columns h, the hard negatives,
may be added to the sum of each direction; they are nobody's partner.

Popularity. Where pairs were drawn because people did things, b_j is in a batch as often as it is popular, and a plain
loss would learn to rank the popular lower than they are. With ``log_odds``, log q_j is subtracted from each score of
column j, its own pair included, which makes the sum an estimate of that over the whole catalog.

Needs n >= 2 to teach anything. More negatives make a better estimate: see `mmrec.finetuning.caching`. Beside it:
`siglip` judges each pair for itself and bears small batches; `supcon` has groups in place of pairs.

Sources: van den Oord et al., 2018, arXiv 1807.03748, equation 4; both directions as in Radford et al., 2021, arXiv
2103.00020, figure 3; the correction as in Yi et al., 2019, RecSys, equation 3.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Hard", "infonce"]


@dataclass(frozen=True, slots=True, eq=False)
class Hard:
    """Further negatives of one direction.

    Attributes:
        vectors: Unit vectors, of the side that is looked for.
        same: Which of them share a content with a pair, and are no negatives to it.

    """

    vectors: Float[Tensor, "h dim"]
    same: Bool[Tensor, "n h"]


def infonce(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    scale: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
    *,
    hard: tuple[Hard | None, Hard | None] = (None, None),
    log_odds: tuple[Float[Tensor, " n"], Float[Tensor, " n"]] | None = None,
) -> Float[Tensor, " n"]:
    """Loss of each pair.

    Args:
        left: One side of each pair, unit vectors.
        right: The other side.
        scale: Inverse temperature, above 0.
        same: Pairs that share a content on either side; symmetric. Its diagonal is not looked at.
        hard: Further right sides that the left ones are to refuse, and further left sides for the right ones.
        log_odds: Logarithm of how often each left, and each right side is drawn.

    """
    scores = scale * left @ right.T  # (left, right)
    lefts, rights = (None, None) if log_odds is None else log_odds
    forward = _one_way(scores, same, scale, left, hard[0], rights)
    backward = _one_way(scores.T, same, scale, right, hard[1], lefts)
    return (forward + backward) / 2


def _one_way(
    scores: Float[Tensor, "n n"],
    same: Bool[Tensor, "n n"],
    scale: Float[Tensor, ""],
    asking: Float[Tensor, "n dim"],
    hard: Hard | None,
    log_odds: Float[Tensor, " n"] | None,
) -> Float[Tensor, " n"]:
    if log_odds is not None:
        scores = scores - log_odds
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    among = scores.masked_fill(same & ~own, -torch.inf)
    if hard is not None and len(hard.vectors):
        further = (scale * asking @ hard.vectors.T).masked_fill(hard.same, -torch.inf)
        among = torch.cat([among, further], dim=1)
    return torch.logsumexp(among, dim=1) - scores.diagonal()
