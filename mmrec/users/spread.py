"""A few learned numbers spread over many places, with a gradient that is summed fast."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["spread"]


class _Spread(torch.autograd.Function):
    """Torch's own gradient of an embedding takes twenty times as long where many places share few numbers."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own context
        ctx.save_for_backward(places)
        ctx.size = table.shape[1]
        flat = places.reshape(-1)
        out = table.new_empty(places.shape[0], len(table), *places.shape[1:])
        for head, numbers in enumerate(table):
            out[:, head] = numbers.index_select(0, flat).view(places.shape)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (places,) = ctx.saved_tensors
        flat = places.reshape(-1)
        sums = gradient.new_zeros(gradient.shape[1], ctx.size)
        for head in range(len(sums)):
            sums[head].scatter_add_(0, flat, gradient[:, head].reshape(-1))
        return sums, None


def spread(table: Float[Tensor, "heads n"], places: Int64[Tensor, "b l l"]) -> Float[Tensor, "b heads l l"]:
    """Return ``table[:, places]``, with the heads behind the batch."""
    spreaded: Tensor = _Spread.apply(table, places)  # type: ignore[no-untyped-call]
    return spreaded
