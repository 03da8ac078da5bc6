"""Contrastive losses: InfoNCE, SigLIP and supervised contrastive loss, with a learned temperature.

Both sides of pairs are unit vectors, and `scale` is the inverse temperature. `same` says which pairs share a content on
either side, and are no negatives to each other; it is symmetric, and its diagonal is not looked at. `hard` are further
negatives of the left sides, and of the right sides.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import softplus


@dataclass(frozen=True, slots=True, eq=False)
class HardNegatives:
    """Hard negatives of one direction: unit vectors, and which of them share a content with which pair."""

    vectors: Float[Tensor, "h dim"]
    same: Bool[Tensor, "n h"]


HardPair: TypeAlias = tuple[HardNegatives | None, HardNegatives | None]


def infonce(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    scale: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
    *,
    hard: HardPair = (None, None),
    log_odds: tuple[Float[Tensor, " n"], Float[Tensor, " n"]] | None = None,
) -> Float[Tensor, " n"]:
    """Loss of each pair; `log_odds` are the logarithms of how often each left, and each right side is drawn."""
    scores = scale * left @ right.T  # (left, right)
    lefts, rights = (None, None) if log_odds is None else log_odds
    forward = _one_way(scores, same, scale, left, hard[0], rights)
    backward = _one_way(scores.T, same, scale, right, hard[1], lefts)
    return (forward + backward) / 2


def _one_way(
    scores: Float[Tensor, "n n"],
    same: Bool[Tensor, "n n"],
    scale: Float[Tensor, ""],
    anchors: Float[Tensor, "n dim"],
    hard: HardNegatives | None,
    log_odds: Float[Tensor, " n"] | None,
) -> Float[Tensor, " n"]:
    if log_odds is not None:
        scores = scores - log_odds
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    logits = scores.masked_fill(same & ~own, -torch.inf)
    if hard is not None and len(hard.vectors):
        further = (scale * anchors @ hard.vectors.T).masked_fill(hard.same, -torch.inf)
        logits = torch.cat([logits, further], dim=1)
    return torch.logsumexp(logits, dim=1) - scores.diagonal()


def siglip(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
    *,
    hard: HardPair = (None, None),
) -> Float[Tensor, " n"]:
    """Loss of each pair: of its own pairing, and of its left side with all its negatives; `bias` is added to scores."""
    scores = scale * left @ right.T + bias
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    negatives = softplus(scores).masked_fill(same | own, 0).sum(dim=1)
    for anchors, more in ((left, hard[0]), (right, hard[1])):
        if more is not None:
            further = softplus(scale * anchors @ more.vectors.T + bias)
            negatives = negatives + further.masked_fill(more.same, 0).sum(dim=1)
    return softplus(-scores.diagonal()) + negatives


def supcon(
    vectors: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    scale: Float[Tensor, ""],
    same: Bool[Tensor, "n n"],
) -> Float[Tensor, " n"]:
    """Loss of each unit vector; 0 where no other of the batch has its label.

    Those that share a content are neither positives nor negatives.
    """
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    out = same | own
    scores = scale * vectors @ vectors.T
    positives = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~out
    counts = positives.sum(dim=1)
    # A row of nothing but its own duplicates has no sum to take the logarithm of.
    logits = scores.masked_fill(out & ~out.all(dim=1, keepdim=True), -torch.inf)
    log_shares = scores - torch.logsumexp(logits, dim=1, keepdim=True)
    return -log_shares.masked_fill(~positives, 0).sum(dim=1) / counts.clamp(min=1)


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


def pair_loss(
    left: Float[Tensor, "n dim"],
    right: Float[Tensor, "n dim"],
    temperature: Temperature,
    same: Bool[Tensor, "n n"],
    *,
    hard: HardPair = (None, None),
    log_odds: tuple[Float[Tensor, " n"], Float[Tensor, " n"]] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean over the pairs: SigLIP, which ignores odds, where the temperature has a bias, else InfoNCE."""
    if temperature.bias is None:
        return infonce(left, right, temperature.scale, same, hard=hard, log_odds=log_odds).mean()
    return siglip(left, right, temperature.scale, temperature.bias, same, hard=hard).mean()
