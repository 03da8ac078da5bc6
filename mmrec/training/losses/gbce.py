"""gBCE: binary cross entropy against sampled items, made up for the overconfidence that sampling brings."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["gbce", "gbce_exponent"]


def gbce_exponent(drawn: int, others: int, calibration: float) -> float:
    """Exponent of the positive's probability: ``a (t (1 - 1/a) + 1/a)`` with ``a = drawn / others``.

    1, plain binary cross entropy, for a calibration t of 0; the sampling rate itself for 1 (Petrov and Macdonald, 2023,
    equation 17).
    """
    rate = min(1.0, drawn / max(1, others))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def gbce(
    positive: Float[Tensor, " n"], negative: Float[Tensor, "n k"], same: Bool[Tensor, "n k"], exponent: float
) -> Float[Tensor, " n"]:
    """Return ``-exponent log sigmoid(positive) - sum log(1 - sigmoid(negative))`` for each target.

    Args:
        positive: Score of each target.
        negative: Its person's score of each item drawn, all items being equally likely.
        same: Where the item drawn is the target itself; it counts for nothing.
        exponent: As `gbce_exponent` gives it.

    """
    wrong = torch.nn.functional.softplus(negative).masked_fill(same, 0).sum(dim=1)
    return exponent * torch.nn.functional.softplus(-positive) + wrong
