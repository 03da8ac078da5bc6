"""What behaviour says of items, counted, and pasts as one sparse matrix."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import Kinds
from mmrec.evaluation.candidates import Candidates
from mmrec.users.model import Past

__all__ = ["counts", "past_matrix", "speaking"]


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
