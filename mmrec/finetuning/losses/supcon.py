"""SupCon: vectors of one label attract each other, and all others of the batch are pushed away.

Method. With unit vectors v_i of labels y_i, inverse temperature t, and s_ij = t <v_i, v_j>, let P(i) be the others of
the batch that have i's label. Each i with a partner has

    l_i = - 1/|P(i)| sum_{p in P(i)} [ s_ip - log sum_{j != i} exp(s_ij) ]

The mean over partners stands outside the logarithm, which the paper found better than inside (its L_out). An i without
a partner in the batch has loss 0, and takes part as a negative of others. Left out of both sums: j with ``same[i, j]``,
a content that is i's own; as a partner it would be found for nothing.

Needs batches in which labels repeat: see `mmrec.finetuning.label`. Beside it: `infonce`, for pairs.

Source: Khosla et al., 2020, arXiv 2004.11362, equation 2.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

__all__ = ["supcon"]


def supcon(
    vectors: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    scale: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
) -> Float[Tensor, " n"]:
    """Loss of each vector; 0 where no other of the batch has its label.

    Args:
        vectors: Unit vectors.
        labels: Their labels.
        scale: Inverse temperature, above 0.
        same: Which share a content, and are neither partners nor strangers; symmetric.

    """
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    out = same | own
    scores = scale * vectors @ vectors.T
    partners = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~out
    counts = partners.sum(dim=1)
    # A row of nothing but its own duplicates has no sum to take the logarithm of.
    among = scores.masked_fill(out & ~out.all(dim=1, keepdim=True), -torch.inf)
    log_shares = scores - torch.logsumexp(among, dim=1, keepdim=True)
    return -log_shares.masked_fill(~partners, 0).sum(dim=1) / counts.clamp(min=1)
