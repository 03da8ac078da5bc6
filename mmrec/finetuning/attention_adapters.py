"""Low-rank additions to attention of torch's own kind, whose layers are never called: its weights are read instead.

peft merges an addition into such weights before each call and takes it out again after it, so that weights that should
stay as they are drift by rounding. Here the weight that is read is the sum, and the one that is kept is never written.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["add_to_attention", "added_weights"]


class _Addition(nn.Module):
    """A weight -> the weight and its low-rank addition, which starts at zero.

    Source: Hu et al. 2021, arXiv 2106.09685, equation 3.
    """

    def __init__(self, weight: Float[Tensor, "out into"], rank: int, alpha: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(rank, weight.shape[1], device=weight.device, dtype=weight.dtype))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device, dtype=weight.dtype))
        self.strength = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Float[Tensor, "out into"]) -> Float[Tensor, "out into"]:
        return weight + self.strength * (self.lora_B @ self.lora_A)


def add_to_attention(layer: nn.MultiheadAttention, rank: int, alpha: int) -> None:
    """Give the projections of a layer an addition each."""
    for holder, name in ((layer, "in_proj_weight"), (layer.out_proj, "weight")):
        parametrize.register_parametrization(holder, name, _Addition(getattr(holder, name), rank, alpha))


def added_weights(network: nn.Module) -> dict[str, Float[Tensor, "out into"]]:
    """Return the sums of the weights that have such an addition, by the names that they had without it."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        parts = getattr(module, "parametrizations", None)
        if isinstance(parts, nn.ModuleDict):
            sums = [
                own for own, chain in parts.items() if any(isinstance(part, _Addition) for part in chain.children())
            ]
            found |= {f"{name}.{own}": getattr(module, own).detach() for own in sums}
    return found
