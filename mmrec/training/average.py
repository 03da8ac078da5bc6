"""A running mean of the weights, which generalises better than the weights of any one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average", "trained"]

_SETTLING = 10


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that ask for gradients, by name, each once."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


class Average:
    """Exponential moving average of a module's trained parameters (Polyak and Juditsky, 1992)."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.keep = keep
        self.own = trained(module)
        self.mean = {name: weight.detach().clone() for name, weight in self.own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of a step in; the first steps, which are far off, are forgotten faster."""
        keep = min(self.keep, step / (step + _SETTLING))
        torch._foreach_lerp_(list(self.mean.values()), list(self.own.values()), 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the mean in place of the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        held: dict[str, Tensor] = {name: weight.clone() for name, weight in self.own.items()}
        for name, weight in self.own.items():
            weight.copy_(self.mean[name])
            self.mean[name] = held[name]
