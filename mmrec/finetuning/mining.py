"""Hard negatives: what is near in the vectors as they are now, and is no partner.

The nearest strangers teach most, and the very nearest of them are often partners that nobody has marked. A candidate is
left out if it stands within a margin of the partner, ``similarity > partner's similarity - margin``, or shares a
content with the asking item. Bounds that go by the partner's own similarity held best where ways of mining were
compared (Moreira et al., 2024, arXiv 2407.15831).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from indexers.recipes import build, default_spec

__all__ = ["Strangers", "mine"]

Strangers = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Bool[np.ndarray, " n"]]
"""From items that ask, and a candidate for each, to whether it may be held against it."""

_DEPTH = 8
"""Neighbours looked at for each that is wanted."""
_AT_ONCE = 1024


def mine(
    asking: tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n dim"]],
    partners: Float32[np.ndarray, " n"],
    among: tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m dim"]],
    strangers: Strangers,
    count: int,
    margin: float,
) -> Int64[np.ndarray, "n count"]:
    """Find the nearest strangers of each item that asks, the nearest first; -1 where there are no more.

    Args:
        asking: Items, and a unit vector of each.
        partners: Similarity of each with its partner.
        among: Items to look among, each once, and a unit vector of each.
        strangers: Which candidates may be taken.
        count: How many are wanted.
        margin: How much less like than the partner a stranger has to be.

    """
    items, vectors = among
    index = build(default_spec(len(items), vectors.shape[1], "ip"), items, vectors)
    depth = min(len(items), _DEPTH * count)
    found = np.full((len(asking[0]), count), -1, dtype=np.int64)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        near = index.search(asking[1][part], depth)
        own = np.broadcast_to(asking[0][part, None], near.rows.shape)
        kept = (near.rows >= 0) & (near.scores <= partners[part, None] - margin)
        kept[kept] = strangers(own[kept], near.rows[kept])
        found[part] = _first(near.rows, kept, count)
    return found


def _first(rows: Int64[np.ndarray, "n k"], kept: Bool[np.ndarray, "n k"], count: int) -> Int64[np.ndarray, "n count"]:
    """The first `count` of each line that are kept."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    first = np.take_along_axis(np.where(kept, rows, -1), order, axis=1)
    return np.pad(first, ((0, 0), (0, count - first.shape[1])), constant_values=-1)
