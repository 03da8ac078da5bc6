"""Lengths of time as a few buckets, each about twice as long as the one before."""

from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

__all__ = ["TIME_BUCKETS", "time_buckets"]

TIME_BUCKETS: Final = 32
"""Under a second, then doubling: the last begins at 68 years."""


def time_buckets(spans: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Bucket of each length of time in microseconds; below 0 counts as none at all."""
    seconds = spans.clamp(min=0).to(torch.float32) / 1e6
    # The smallest step over 1 keeps whole powers of two from rounding into the bucket below.
    return torch.log2((seconds + 1) * (1 + 1e-6)).to(torch.int64).clamp(max=TIME_BUCKETS - 1)
