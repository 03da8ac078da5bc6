"""Items that the same people met: neighbours by cosine with shrinkage (Deshpande and Karypis 2004)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import Kinds
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.counting import past_matrix, speaking
from mmrec.evaluation.scorer import Scorer
from mmrec.users.model import Past

__all__ = ["ItemKNN"]


@dataclass(frozen=True, slots=True)
class ItemKNN:
    """Sums the similarities of an item to those of the past.

    Attributes:
        neighbours: How many of the most similar items each item keeps.
        shrinkage: Added to the divisor of the cosine, so that two people who happen to agree prove little.
        half_life: After so many later events an event of the past counts half.
        kinds: Which events speak for an item.
        name: What it is called in tables.

    """

    neighbours: int = 200
    shrinkage: float = 10.0
    half_life: float = 20.0
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "item-kNN"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Compare all items that anyone met together."""
        columns, which = candidates.places(train.items), speaking(train, self.kinds)
        which &= columns >= 0
        met = sp.coo_array(
            (np.ones(int(which.sum()), dtype=np.float32), (train.owners[which], columns[which])),
            shape=(len(train), len(candidates)),
        ).tocsr()
        met.data[:] = 1  # who met an item several times is one person
        together = (met.T @ met).tocoo()
        norms = np.sqrt(np.asarray(met.sum(axis=0)))
        first, second = together.coords
        values = together.data / (norms[first] * norms[second] + self.shrinkage)
        values[first == second] = 0
        similar = sp.coo_array((values.astype(np.float32), (first, second)), shape=together.shape).tocsr()
        similar.eliminate_zeros()
        return _Fitted(self.name, candidates, _nearest(similar, self.neighbours), self.half_life)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    name: str
    candidates: Candidates
    similar: sp.csr_array
    half_life: float

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"data": self.similar.data, "indices": self.similar.indices, "indptr": self.similar.indptr}

    def scores(self, pasts: Sequence[Past], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        return (past_matrix(pasts, self.candidates, self.half_life) @ self.similar).toarray().astype(np.float32)


def _nearest(similar: sp.csr_array, most: int) -> sp.csr_array:
    """The largest values of each row; of those level the first columns."""
    similar.sort_indices()
    lines = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, lines))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - similar.indptr[lines[order]]
    keep = ranks < most
    entries = (similar.data[keep], (lines[keep], similar.indices[keep]))
    kept = sp.coo_array(entries, shape=similar.shape).tocsr()
    kept.sort_indices()
    return kept
