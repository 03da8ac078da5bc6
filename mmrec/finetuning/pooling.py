"""Items as vectors: the mean direction of what an item has, one content of each modality."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors, TowerVectors
from mmrec.types import Modality
from mmrec.unit import unit

__all__ = ["Draw", "draw", "item_vectors"]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Items of a step, and a content of each modality that each of them has.

    Attributes:
        items: Places of the items, each once.
        contents: Places of the contents, each once, by modality.
        parts: For each modality, which of the items have one, and which of `contents` it is.

    """

    items: Int64[np.ndarray, " n"]
    contents: Mapping[Modality, Int64[np.ndarray, " _"]]
    parts: Mapping[Modality, tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]]

    def pooled(self, vectors: TowerVectors) -> Float[Tensor, "n dim"]:
        """Unit vectors of the items."""
        some = next(iter(vectors.values()))
        summed = some.new_zeros(len(self.items), some.shape[1])
        for modality, (owners, at) in self.parts.items():
            given = vectors[modality]
            summed = summed.index_add(0, _index(owners, given), given[_index(at, given)])
        return normalize(summed, dim=1)

    def find(self, items: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """Where some items are among these, which are in order."""
        return np.searchsorted(self.items, items)


def draw(corpus: Corpus, items: Int64[np.ndarray, " n"], random: np.random.Generator) -> Draw:
    """Draw a content of each modality for each of some items, given in ascending order and each once."""
    contents, parts = {}, {}
    for modality, own in corpus.contents.items():
        having = np.flatnonzero(own.counts[items] > 0)
        if len(having):
            met, at = np.unique(own.drawn(items[having], random), return_inverse=True)
            contents[modality], parts[modality] = met, (having, at)
    return Draw(items, contents, parts)


def item_vectors(
    corpus: Corpus, vectors: ContentVectors
) -> tuple[Float32[np.ndarray, "items dim"], Bool[np.ndarray, " items"]]:
    """Unit vectors of all items, from all their contents, and which of them have any.

    Each modality counts alike, however many contents an item has of it.
    """
    dim = next(iter(vectors.values())).shape[1]
    summed = np.zeros((len(corpus), dim), dtype=np.float32)
    for modality, given in vectors.items():
        summed += unit((corpus.matrix(modality) @ given).astype(np.float32))
    return unit(summed), np.asarray(summed.any(axis=1))


def _index(places: Int64[np.ndarray, " n"], like: Tensor) -> Int64[Tensor, " n"]:
    return torch.from_numpy(places).to(like.device)
