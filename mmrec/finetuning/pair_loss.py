"""The loss of pairs that a configuration names, with what it learns: temperature and bias."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.losses.infonce import Hard, infonce
from mmrec.finetuning.losses.siglip import siglip
from mmrec.finetuning.losses.temperature import Temperature

__all__ = ["PairLoss", "beside"]


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
