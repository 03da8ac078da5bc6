"""What encoders share: the default device, and the last step, unit rows in float32 handed over as numpy arrays."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.encoders.protocol import Vectors

__all__ = ["CPU", "arrays", "unit_rows"]

CPU = torch.device("cpu")


def unit_rows(rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """Return the rows at length one, in float32 whatever the network's number format."""
    return normalize(rows.to(torch.float32), dim=1)


def arrays(tensors: Mapping[str, Float[Tensor, "n dim"]]) -> Vectors:
    """Return the vectors of each space as numpy arrays on the host."""
    return {space: rows.cpu().numpy() for space, rows in tensors.items()}
