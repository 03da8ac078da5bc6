"""Questions by how much is known of the person, and by how often training met the target."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

__all__ = ["ITEM_EDGES", "PAST_EDGES", "slices"]

PAST_EDGES: Final = (0, 1, 3, 5, 10, 20, 50, 100)
"""Where slices by the number of events known of a person begin."""

ITEM_EDGES: Final = (0, 1, 5, 20, 100, 500)
"""Where slices by the number of training events of the target begin."""


def slices(values: Int64[np.ndarray, " q"], edges: Sequence[int]) -> Mapping[str, Bool[np.ndarray, " q"]]:
    """Which questions lie between each two edges, the last slice being open; names are as ``3-4``, ``100+``."""
    found = {}
    for low, high in pairwise(edges):
        name = f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        found[name] = (values >= low) & (values < high)
    found[f"{edges[-1]}+"] = values >= edges[-1]
    return found
