"""A running mean of the weights, which generalises better than the weights of any one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average"]

_SETTLING = 10


class Average:
    """Exponential moving average of a module's parameters (Polyak and Juditsky, 1992)."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.keep = keep
        self.own = dict(module.named_parameters())
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
