"""Where prepared contents come from, and the plainest source: vectors that a store has already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64

from mmrec.encoders.protocol import Sample
from mmrec.modality import Modality

__all__ = ["Samples", "VectorSamples"]


@runtime_checkable
class Samples(Protocol):
    """Contents of a corpus, prepared for their towers."""

    def costs(self, modality: Modality) -> Int64[np.ndarray, " contents"]:
        """`Sample.cost` of each content of a modality."""
        ...

    def take(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> Sequence[Sample]:
        """Some contents. Raises MediaError where one can no longer be had."""
        ...

    def expect(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> None:
        """Hear what is taken soon, and begin with it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorSamples:
    """Vectors as samples, for towers that begin where an encoder ends.

    Attributes:
        vectors: One a content, in the order of the corpus.

    """

    vectors: Mapping[Modality, Float32[np.ndarray, "_ _"]]

    def costs(self, modality: Modality) -> Int64[np.ndarray, " contents"]:
        """1 for each."""
        return np.ones(len(self.vectors[modality]), dtype=np.int64)

    def take(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> Sequence[Sample]:
        """Some vectors."""
        return [Sample(row, cost=1) for row in torch.from_numpy(self.vectors[modality][places])]

    def expect(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> None:
        """Nothing is to be begun with."""
