"""Which items are never trained on, so that no content of theirs is.

Items that share a content belong together: were one of them trained on, the other would be known already. Groups are
the connected components of that relation, and a group is held out as a whole.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from scipy.sparse import hstack
from scipy.sparse.csgraph import connected_components

from mmrec.errors import UsageError
from mmrec.finetuning.config import HeldOutConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.types import Modality

__all__ = ["HeldOut", "groups_of", "hold_out"]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Places of items, ascending; no group is in two of them.

    Attributes:
        groups: Group of each item of the corpus.
        train: What is learned from.
        validation: What says when to stop.
        test: What says whether it helped.

    """

    groups: Int64[np.ndarray, " items"]
    train: Int64[np.ndarray, " _"]
    validation: Int64[np.ndarray, " _"]
    test: Int64[np.ndarray, " _"]

    @property
    def untaught(self) -> Int64[np.ndarray, " _"]:
        """What is not learned from, ascending."""
        return np.union1d(self.validation, self.test)

    @property
    def sizes(self) -> dict[str, int]:
        """Items of each part."""
        return {"trained on": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def groups_of(corpus: Corpus, together: tuple[Modality, ...] = ()) -> Int64[np.ndarray, " items"]:
    """Number the groups of items that share contents of some modalities, or of any if none is named."""
    chosen = [modality for modality in together or tuple(corpus.contents) if modality in corpus.contents]
    if not chosen or not len(corpus):
        return np.arange(len(corpus))
    own = hstack([corpus.matrix(modality) for modality in chosen]).tocsr()
    # Through the contents and not from item to item: a content of all items would make a square of them.
    count = own.shape[0]
    edges = own.tocoo()
    graph = type(edges)((edges.data, (edges.row, edges.col + count)), shape=(sum(own.shape), sum(own.shape)))
    _, labels = connected_components(graph, directed=False)
    _, groups = np.unique(labels[:count], return_inverse=True)
    return groups.astype(np.int64)


def hold_out(corpus: Corpus, items: Int64[np.ndarray, " n"], config: HeldOutConfig, seed: int) -> HeldOut:
    """Split some items, group by group, in an order that the seed decides.

    A share is filled until the next group would exceed it; one that is larger than that is trained on.
    Raises UsageError where there are none, or either part would be empty, as where all items hang together.
    """
    if not len(items):
        raise UsageError(
            "There is nothing to learn from: no item has what is wanted. For align that is contents of two modalities "
            "that attract each other, for label a value in the column, and always a content that an encoder reads."
        )
    groups = groups_of(corpus, config.together)
    sizes = np.bincount(groups[items], minlength=int(groups.max(initial=-1)) + 1)
    order = np.random.default_rng([seed, len(corpus)]).permutation(np.flatnonzero(sizes))
    parts: list[list[int]] = []
    for share in (config.validation, config.test):
        room, taken = max(1, round(share * len(items))), list[int]()
        used = {group for part in parts for group in part}
        for group in order.tolist():
            if group not in used and sizes[group] <= room:
                taken.append(group)
                room -= sizes[group]
        parts.append(taken)
    chosen = [items[np.isin(groups[items], part)] for part in parts]
    rest = items[~np.isin(groups[items], parts[0] + parts[1])]
    if not all(len(part) for part in (*chosen, rest)):
        raise UsageError(
            f"{len(items)} items cannot be split: those that share contents belong together, and the largest "
            f"such group has {int(sizes.max(initial=0))}. Name fewer modalities in held_out.together, or take in "
            "more items."
        )
    return HeldOut(groups, rest, *chosen)
