"""Full softmax: the odds of the item that was met next, against all items."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["full_softmax"]


def full_softmax(
    people: Float[Tensor, "n dim"],
    items: Float[Tensor, "m dim"],
    targets: Int64[Tensor, " n"],
    scale: Float[Tensor, ""],
    smoothing: float = 0.0,
) -> Float[Tensor, " n"]:
    """Cross entropy of each target: ``-log softmax(scale * people @ items.T)[target]``.

    Args:
        people: Unit vectors.
        items: Unit vectors of the items that may be met: none that training has not seen, or it would learn to push
            away what is merely new.
        targets: Place of the item that was met, in `items`.
        scale: The inverse temperature.
        smoothing: Share of the target that is spread over all items (label smoothing).

    """
    logits = (scale * people) @ items.T
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
