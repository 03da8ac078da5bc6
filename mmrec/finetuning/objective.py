"""What is learned: from a corpus to steps, each of which says what to embed and what loss the vectors have."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from mmrec.types import Modality

__all__ = ["ContentVectors", "FinetuneObjective", "Step", "TowerVectors"]

TowerVectors: TypeAlias = Mapping[Modality, Float[Tensor, "_ dim"]]
"""Unit vectors of the contents of a step, by modality, in the order of `Step.contents`."""

ContentVectors: TypeAlias = Mapping[Modality, Float32[np.ndarray, "_ _"]]
"""Unit vectors of all contents of a corpus, by modality, in the order of its contents."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One batch.

    Attributes:
        contents: Places of the contents to embed, each once, by modality.
        loss: From their vectors to the mean loss.
        count: How many pairs or items the mean is over.
        behind: Share of the epoch's batches that came before.

    """

    contents: Mapping[Modality, Int64[np.ndarray, " _"]]
    loss: Callable[[TowerVectors], Float[Tensor, ""]]
    count: int
    behind: float


@runtime_checkable
class FinetuneObjective(Protocol):
    """A sampler of batches and their loss. All that is random in it depends on the seed and the epoch alone."""

    @property
    def module(self) -> nn.Module:
        """What is learned beside the towers: the temperature."""
        ...

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        ...

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of an epoch."""
        ...

    @property
    def mines(self) -> bool:
        """Whether it wants `mine` to be called."""
        ...

    def mine(self, vectors: ContentVectors) -> None:
        """Look for hard negatives among the vectors as they are now."""
        ...

    @property
    def mined(self) -> Mapping[str, Tensor]:
        """What was mined, for a training that is interrupted."""
        ...

    def load_mined(self, mined: Mapping[str, Tensor]) -> None:
        """Go on with what was mined before."""
        ...
