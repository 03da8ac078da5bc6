"""The temperature of a contrastive loss, and the bias of one that judges pairs: learned with the weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Temperature"]

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
