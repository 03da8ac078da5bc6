"""SigLIP: each of the n x n pairings of a batch is judged for itself, as partners or strangers.

Method. With unit vectors a_i and b_j, inverse temperature t and bias c, both learned, and z_ij = 1 for i = j, else -1,

    l_i = - sum_j log sigmoid( z_ij (t <a_i, b_j> + c) )

There is no sum inside a logarithm, so that a pairing means the same in a batch of 16 as in one of 16,000. Nearly all
pairings are of strangers: c begins at -10 with t = 10, where the loss of all strangers together is small, else the
first steps would only push everything apart. Left out: pairings of strangers with ``same[i, j]``, whose contents are
those of a pair on either side. Hard negatives are further columns, all of them strangers, of both directions.

Beside it: `infonce`, which compares the pairings of a batch with each other, and learns faster from large batches.

Source: Zhai et al., 2023, arXiv 2303.15343, equation 2 and algorithm 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from mmrec.finetuning.losses.infonce import Hard

__all__ = ["siglip"]


def siglip(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
    *,
    hard: tuple[Hard | None, Hard | None] = (None, None),
) -> Float[Tensor, " n"]:
    """Loss of each pair: of its own pairing, and of its left side with all that it is no partner of.

    Args:
        left: One side of each pair, unit vectors.
        right: The other side.
        scale: Inverse temperature, above 0.
        bias: Added to each score.
        same: Pairs that share a content on either side; symmetric. Its diagonal is not looked at.
        hard: Further right sides that no left one belongs to, and further left sides for the right ones.

    """
    scores = scale * left @ right.T + bias
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    strangers = softplus(scores).masked_fill(same | own, 0).sum(dim=1)
    for asking, more in ((left, hard[0]), (right, hard[1])):
        if more is not None:
            strangers = strangers + softplus(scale * asking @ more.vectors.T + bias).masked_fill(more.same, 0).sum(
                dim=1
            )
    return softplus(-scores.diagonal()) + strangers
