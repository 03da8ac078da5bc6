"""States of tokens -> one vector a text. Padding is masked, so that it moves nothing."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["POOLINGS", "pool"]

_Pooling = Callable[[Float[Tensor, "batch tokens width"], Bool[Tensor, "batch tokens"]], Float[Tensor, "batch width"]]


def pool(
    how: tuple[str, ...],
    states: Float[Tensor, "batch tokens width"],
    counted: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch wide"]:
    """Pool the counted tokens of each row, by one way or by several side by side. `how` names keys of `POOLINGS`."""
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    return torch.cat([POOLINGS[name](wide, counted) for name in how], dim=1).to(states.dtype)


def _mean(states: Tensor, counted: Tensor) -> Tensor:
    return _sum(states, counted) / _count(counted)


def _mean_sqrt_len(states: Tensor, counted: Tensor) -> Tensor:
    return _sum(states, counted) / _count(counted).sqrt()


def _weighted_mean(states: Tensor, counted: Tensor) -> Tensor:
    # A token weighs as much as its place, from one. Source: Muennighoff 2022, arXiv 2202.08904, equation 2.
    places = torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)
    weights = counted.to(states.dtype) * places
    return (states * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp_min(1)


def _max(states: Tensor, counted: Tensor) -> Tensor:
    return states.masked_fill(~counted[..., None], float("-inf")).amax(dim=1)


def _cls(states: Tensor, counted: Tensor) -> Tensor:
    return states[_rows(states), counted.int().argmax(dim=1)]


def _last_token(states: Tensor, counted: Tensor) -> Tensor:
    last = states.shape[1] - 1 - counted.int().flip(1).argmax(dim=1)
    return states[_rows(states), last]


def _sum(states: Tensor, counted: Tensor) -> Tensor:
    return (states * counted[..., None].to(states.dtype)).sum(dim=1)


def _count(counted: Tensor) -> Tensor:
    return counted.sum(dim=1, keepdim=True).clamp_min(1).float()


def _rows(states: Tensor) -> Tensor:
    return torch.arange(len(states), device=states.device)


POOLINGS: Mapping[str, _Pooling] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}
"""By the names that sentence-transformers gives them; several at once are laid side by side in this order."""
