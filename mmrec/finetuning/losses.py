"""Contrastive losses: InfoNCE, SigLIP and supervised contrastive loss, with a learned temperature."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import softplus

from mmrec.finetuning.config import FinetuneConfig


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


_GREATEST = 100.0


class Temperature(nn.Module):
    """An inverse temperature, learned by its logarithm and held at 100, and a bias.

    Beyond 100 training becomes unstable (Radford et al., 2021, section 2.5).
    """

    def __init__(self, scale: float, bias: float | None = None) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature."""
        return self.log_scale.exp().clamp(max=_GREATEST)


class PairLoss(nn.Module):
    """InfoNCE or SigLIP."""

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__()
        self.kind = config.loss
        self.temperature = Temperature(config.scale, config.bias if config.loss == "siglip" else None)

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return float(self.temperature.scale.item())

    def forward(
        self,
        left: Float[Tensor, "n dim"],
        right: Float[Tensor, "n dim"],
        same: Bool[Tensor, "n n"],
        hard: tuple[Hard | None, Hard | None] = (None, None),
        log_odds: tuple[Float[Tensor, " n"], Float[Tensor, " n"]] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean over the pairs. SigLIP judges each pairing for itself, and has no use for odds."""
        scale, bias = self.temperature.scale, self.temperature.bias
        if bias is None:
            return infonce(left, right, scale, same, hard=hard, log_odds=log_odds).mean()
        return siglip(left, right, scale, bias, same, hard=hard).mean()

    def tensor(self, array: np.ndarray) -> Tensor:
        """Put an array beside the weights."""
        return beside(array, self.temperature.log_scale)


def beside(array: np.ndarray, weight: Tensor) -> Tensor:
    """Put an array on the device of a weight."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(weight.device)
