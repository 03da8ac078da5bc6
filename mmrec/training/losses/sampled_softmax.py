"""Sampled softmax: the full softmax, its denominator estimated from a few items."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["sampled_softmax"]


def sampled_softmax(
    positive: Float[Tensor, " n"],
    negative: Float[Tensor, "n k"],
    log_expected: Float[Tensor, " k"],
    same: Bool[Tensor, "n k"],
) -> Float[Tensor, " n"]:
    """Cross entropy of each target against sampled items, corrected by how often each is drawn (logQ).

    ``exp(negative - log_expected)`` summed over the sample has the sum over all other items as its expectation, so the
    loss tends to the full softmax as more are drawn (Bengio and Senecal, 2008; Yi et al., 2019, equation 3).

    Args:
        positive: Score of each target.
        negative: Its person's score of each item drawn.
        log_expected: Logarithm of how often each of them is expected in the sample.
        same: Where the item drawn is the target itself; it is counted once, as the target.

    """
    corrected = (negative - log_expected).masked_fill(same, -torch.inf)
    return torch.logsumexp(torch.cat([positive.unsqueeze(1), corrected], dim=1), dim=1) - positive
