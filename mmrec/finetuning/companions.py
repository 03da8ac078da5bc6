"""Which items are known to go together: of many pairs, and asked for every batch."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_matrix

__all__ = ["Companions"]


@dataclass(frozen=True, slots=True, eq=False)
class Companions:
    """A relation between items, the same in both directions.

    Attributes:
        offsets: Those of the item at place i are from ``offsets[i]`` to ``offsets[i + 1]`` in `others`.
        others: Places of items, ascending within an item and each once.

    """

    offsets: Int64[np.ndarray, " items_and_one"]
    others: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, left: Int64[np.ndarray, " pairs"], right: Int64[np.ndarray, " pairs"], items: int) -> Self:
        """Take pairs of places of so many items; a pair may come many times, and either way round."""
        met = csr_matrix((np.ones(len(left), dtype=bool), (left, right)), shape=(items, items))
        both = (met + met.T).tocsr()
        both.sort_indices()
        return cls(both.indptr.astype(np.int64), both.indices.astype(np.int64))

    def among(self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, "n m"]:
        """Which of some items go with which of others."""
        counts = np.diff(self.offsets)
        if counts[others].sum() < counts[some].sum():
            return self._lines(others, some).T
        return self._lines(some, others)

    def _lines(self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, "n m"]:
        """The same, in time that the companions of `some` decide: a popular item has more than a batch could ask of."""
        asking, asked = np.unique(some, return_inverse=True)
        lines = np.empty((len(asking), len(others)), dtype=bool)
        marked = np.zeros(len(self.offsets) - 1, dtype=bool)
        for number, item in enumerate(asking.tolist()):
            near = self.others[self.offsets[item] : self.offsets[item + 1]]
            marked[near] = True
            lines[number] = marked[others]
            marked[near] = False
        return lines[asked]
