"""Position embeddings of SigLIP 2's vision tower, resized to a picture's own shape alike on every device.

torch's resizing with antialiasing is wrong on the CPU where the result has one column and several rows (torch 2.11 to
2.14; a picture far taller than wide has such a grid of patches) and right on a GPU. Here it is two matrix products,
whose weights are computed once a size: the triangle filter of `torch.nn.functional.interpolate`, with ``bilinear``,
``antialias=True`` and ``align_corners=False``.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["resized_positions", "use_exact_positions"]


def use_exact_positions(network: nn.Module) -> None:
    """Have all SigLIP 2 vision embeddings of a network resize their positions with `resized_positions`."""
    from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings  # noqa: PLC0415 (takes seconds)

    for module in network.modules():
        if isinstance(module, Siglip2VisionEmbeddings):
            vars(module)["resize_positional_embeddings"] = resized_positions


def resized_positions(
    positional_embeddings: Float[Tensor, "height width dim"],
    spatial_shapes: Int[Tensor, "batch 2"],
    max_length: int,
) -> Float[Tensor, "batch max_length dim"]:
    """Return the positions of each picture's patches, row by row, then zeros; the names are those of transformers.

    Args:
        positional_embeddings: The learned grid.
        spatial_shapes: Rows and columns of patches of each picture.
        max_length: Patches of the longest picture, padding included.

    """
    grid = positional_embeddings.to(torch.float32)
    height, width, dim = grid.shape
    made = grid.new_zeros(len(spatial_shapes), max_length, dim)
    for picture, (rows, columns) in enumerate(spatial_shapes.tolist()):
        down, across = (_triangles(*sizes).to(grid.device) for sizes in ((height, rows), (width, columns)))
        # (rows, height) @ (height, width * dim), then (columns, width) @ (rows, width, dim)
        tall = (down @ grid.reshape(height, width * dim)).reshape(rows, width, dim)
        made[picture, : rows * columns] = (across @ tall).reshape(rows * columns, dim)
    return made.to(positional_embeddings.dtype)


@lru_cache(maxsize=1_024)
def _triangles(size: int, wanted: int) -> Float[Tensor, "wanted size"]:
    """Weights of each old place in each new one; they sum to one. Where there are fewer places, the filter widens."""
    step = size / wanted
    reach = max(step, 1.0)
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
    places = torch.arange(size, dtype=torch.float64) + 0.5
    weights = (1 - (places[None] - centres[:, None]).abs() / reach).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)
