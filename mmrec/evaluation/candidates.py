"""The items that are ranked: all of a catalog, never a sample."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError

__all__ = ["Candidates"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """All items that can be recommended. A score's column is an item's place here.

    Attributes:
        rows: Row numbers, ascending.
        vectors: Fused content vectors: unit length, shorter where an item lacks a modality that others have, zero where
            it has no content; None where there are none.
        categories: Share of each category in each item, adding up to 1, or to 0 where nothing is known; None where no
            column was named.

    """

    rows: Int64[np.ndarray, " items"]
    vectors: Float32[np.ndarray, "items dim"] | None = None
    categories: Float32[np.ndarray, "items categories"] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError where rows are not ascending."""
        if not (self.rows[1:] > self.rows[:-1]).all():
            raise UsageError("The row numbers of the candidates must be ascending, each once: sort them first.")

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def places(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Place of each row number, -1 where it is not among the candidates."""
        if not len(self.rows):
            return np.full(len(rows), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[found] == rows, found, -1).astype(np.int64)
