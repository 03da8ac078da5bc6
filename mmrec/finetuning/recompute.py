"""Gradient checkpointing for any network: its blocks are computed again on the way back.

Source: Chen et al. 2016, arXiv 1604.06174. Libraries' own kinds of it work only where the network is in training mode.
"""

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["recompute"]


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Let blocks keep nothing but their inputs for the way back. Done once or twice, it is the same."""
    for block in blocks:
        if "forward" not in vars(block):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
