"""What lists are like beyond being right: how much of the catalog, how varied, how popular, how surprising.

Lists hold places of candidates, -1 where a list is shorter; such places count nowhere.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

__all__ = ["coverage", "gini", "intra_list_diversity", "novelty", "popularity", "serendipity"]

Lists = Int64[np.ndarray, "q k"]


def coverage(lists: Lists, items: int) -> float:
    """Share of all candidates that are in any list."""
    return len(np.unique(lists[lists >= 0])) / items if items else 0.0


def gini(lists: Lists, items: int) -> float:
    """Gini coefficient of how often candidates are shown: 0 where all alike, near 1 where few take all."""
    shown = np.sort(np.bincount(lists[lists >= 0], minlength=items)).astype(np.float64)
    if not shown.sum():
        return 0.0
    return float(((2 * np.arange(1, items + 1) - items - 1) * shown).sum() / (items * shown.sum()))


def intra_list_diversity(lists: Lists, vectors: Float32[np.ndarray, "items dim"]) -> Float64[np.ndarray, " q"]:
    """Mean of one minus the cosine over all pairs of a list (Ziegler et al. 2005); NaN where there is no pair.

    Vectors of any length count as unit vectors; an item without content has a zero one, and is like nothing.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    found = np.full(len(lists), np.nan)
    for start in range(0, len(lists), 1024):
        some = lists[start : start + 1024]
        there = some >= 0
        chosen = np.where(there[..., None], vectors[some], 0).astype(np.float64)  # (q, k, dim)
        # The sum over all pairs is the squared length of the sum, less the items with themselves.
        like = np.square(chosen.sum(axis=1)).sum(axis=1) - np.square(chosen).sum(axis=(1, 2))
        pairs = there.sum(axis=1) * (there.sum(axis=1) - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + 1024] = np.where(pairs > 0, 1 - like / pairs, np.nan)
    return found


def novelty(lists: Lists, counts: Int64[np.ndarray, " items"]) -> Float64[np.ndarray, " q"]:
    """Mean self-information in bits: -log2 of an item's share of all training events (Zhou et al. 2010).

    One event is added to each item, so that those that nobody met are finite, and the most novel of all.
    """
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    return _mean(bits, lists)


def popularity(lists: Lists, counts: Int64[np.ndarray, " items"]) -> Float64[np.ndarray, " q"]:
    """Mean number of training events of what is recommended (ARP, Yin et al. 2012)."""
    return _mean(counts.astype(np.float64), lists)


def serendipity(lists: Lists, targets: Int64[np.ndarray, " q"], expected: Lists) -> Float64[np.ndarray, " q"]:
    """Whether a list has the target, and anyone could not have said so (Ge et al. 2010): the primitive list has it not.

    Args:
        lists: Those of the model.
        targets: Place of each question's target.
        expected: Those of a primitive model, popularity for one, for the same questions.

    """
    right = (lists == targets[:, None]).any(axis=1)
    obvious = (expected == targets[:, None]).any(axis=1)
    return (right & ~obvious).astype(np.float64)


def _mean(values: Float64[np.ndarray, " items"], lists: Lists) -> Float64[np.ndarray, " q"]:
    there = lists >= 0
    total = np.where(there, values[lists], 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there.any(axis=1), total / there.sum(axis=1), np.nan)
