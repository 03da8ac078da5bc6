"""Which items have a content in common: asked for every batch, and answered by numbers of contents alone.

A content that one item alone has is in common with nobody, so only the others are kept. In most catalogs few are left.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Int64

__all__ = ["Sharing"]


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """Contents of one modality that several items have.

    Attributes:
        offsets: Those of the item at place i are from ``offsets[i]`` to ``offsets[i + 1]`` in `contents`.
        contents: Their numbers, ascending within an item and each once.
        keys: Item and content of each entry as one number, ascending.
        width: What an item counts in `keys`.

    """

    offsets: Int64[np.ndarray, " items_and_one"]
    contents: Int64[np.ndarray, " n"]
    keys: Int64[np.ndarray, " n"]
    width: int

    @classmethod
    def of(cls, offsets: Int64[np.ndarray, " items_and_one"], contents: Int64[np.ndarray, " n"]) -> Self:
        """Take what items have, in any order."""
        width = int(contents.max(initial=0)) + 1
        count = len(offsets) - 1
        keys = np.unique(np.repeat(np.arange(count), np.diff(offsets)) * width + contents)
        keys = keys[np.bincount(keys % width, minlength=width)[keys % width] > 1]
        return cls(np.searchsorted(keys, np.arange(count + 1) * width), keys % width, keys, width)

    def meet(
        self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"], met: Bool[np.ndarray, "n m"]
    ) -> None:
        """Mark which of some items have a content in common with which of others.

        What is held at once is no larger than `met`, however many items have one content.
        """
        owners, theirs = self._entries(others)
        order = np.argsort(theirs, kind="stable")
        owners, theirs = owners[order], theirs[order]
        counts = self.offsets[some + 1] - self.offsets[some]
        for turn in range(int(counts.max(initial=0)) if len(owners) else 0):
            asking = np.flatnonzero(counts > turn)
            wanted = self.contents[self.offsets[some[asking]] + turn]
            first = np.searchsorted(theirs, wanted)
            found = np.searchsorted(theirs, wanted, side="right") - first
            met[np.repeat(asking, found), owners[_ranges(first, found)]] = True

    def meet_each(self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Whether each of some items has a content in common with the one beside it."""
        met = np.zeros(len(some), dtype=bool)
        if len(self.keys):
            at, contents = self._entries(some)
            wanted = others[at] * self.width + contents
            near = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            met[at[self.keys[near] == wanted]] = True
        return met

    def _entries(self, items: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
        """Place in `items` and content of each of their entries."""
        starts = self.offsets[items]
        counts = self.offsets[items + 1] - starts
        return np.repeat(np.arange(len(items)), counts), self.contents[_ranges(starts, counts)]


def _ranges(starts: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " k"]:
    """All numbers from each start on, as many as are counted."""
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum())) + np.repeat(starts - ends + counts, counts)
