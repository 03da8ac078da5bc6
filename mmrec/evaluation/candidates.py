"""The candidate items that are ranked, and interaction counts over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Int64

from mmrec.errors import UsageError
from mmrec.events.histories import Histories
from mmrec.events.kinds import Kinds
from mmrec.users.model import Past

__all__ = ["Candidates", "counts", "past_matrix", "speaking"]


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


def speaking(histories: Histories, kinds: Kinds) -> Bool[np.ndarray, " n"]:
    """Which events speak for their item."""
    return histories.weights(kinds.weights) > 0


def counts(histories: Histories, candidates: Candidates, kinds: Kinds) -> Int64[np.ndarray, " items"]:
    """Number of events that speak for each candidate."""
    places = candidates.places(histories.items[speaking(histories, kinds)])
    return np.bincount(places[places >= 0], minlength=len(candidates)).astype(np.int64)


def past_matrix(pasts: Sequence[Past], candidates: Candidates, half_life: float = np.inf) -> sp.csr_array:
    """What each person did, as a row of weights over the candidates; what is no candidate is left out.

    An event's weight is that of its kind, halved with every `half_life` events that came after it.
    """
    lengths = [len(past) for past in pasts]
    shape = (len(pasts), len(candidates))
    if not sum(lengths):
        return sp.csr_array(shape, dtype=np.float32)
    lines = np.repeat(np.arange(len(pasts)), lengths)
    columns = candidates.places(np.concatenate([past.rows for past in pasts]))
    ages = np.concatenate([np.arange(length)[::-1] for length in lengths])
    weights = np.concatenate([past.weights for past in pasts]) * np.exp2(-ages / half_life)
    there = columns >= 0
    entries = (weights[there].astype(np.float32), (lines[there], columns[there]))
    return sp.coo_array(entries, shape=shape).tocsr()
