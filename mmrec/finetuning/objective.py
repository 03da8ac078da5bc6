"""The base class of fine-tuning objectives, and pooling of an item's contents into one vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import Temperature
from mmrec.types import Modality
from mmrec.unit import unit

TowerVectors: TypeAlias = Mapping[Modality, Float[Tensor, "_ dim"]]
"""Unit vectors of the contents of a step, by modality, in the order of `Step.contents`."""

ContentVectors: TypeAlias = Mapping[Modality, Float32[np.ndarray, "_ _"]]
"""Unit vectors of all contents of a corpus, by modality, in the order of its contents."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One batch: places of the contents to embed, each once, and the mean loss of `count` pairs or items.

    `progress` is the share of the epoch's batches that came before.
    """

    contents: Mapping[Modality, Int64[np.ndarray, " _"]]
    loss: Callable[[TowerVectors], Float[Tensor, ""]]
    count: int
    progress: float


class FinetuneObjective(ABC):
    """A sampler of batches and their loss. All that is random in it depends on the seed and the epoch alone."""

    def __init__(self, corpus: Corpus, config: FinetuneConfig, *, bias: bool = False) -> None:
        """Start from the configured temperature, and the bias if the loss has one."""
        self.corpus, self.config = corpus, config
        self.temperature = Temperature(config.scale, config.bias if bias else None)
        self.hard_negatives: dict[str, Int64[Tensor, "items kept"]] = {}
        """Those found so far, by name; they are a part of checkpoints."""

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of an epoch."""
        random = np.random.default_rng([self.config.seed, epoch])
        batches = self.batches(random)
        for number, batch in enumerate(batches):
            yield self.step(batch, random, number / len(batches))

    @abstractmethod
    def batches(self, random: np.random.Generator) -> Sequence[Any]:
        """Cut an epoch into batches, in the order of the steps."""

    @abstractmethod
    def step(self, batch: Any, random: np.random.Generator, progress: float) -> Step:  # noqa: ANN401 - of `batches`
        """Draw the contents of a batch."""

    @property
    def uses_hard_negatives(self) -> bool:
        """Whether `find_hard_negatives` is to be called."""
        return False

    def find_hard_negatives(self, vectors: ContentVectors) -> None:
        """Look for hard negatives among the vectors as they are now; by default for none."""
        del vectors

    def tensor(self, array: np.ndarray) -> Tensor:
        """Return an array on the device of the temperature."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.temperature.log_scale.device)


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Places of the items of a step, ascending, and a content of each modality that each of them has.

    Contents are there once each; `parts` says for each modality which of the items have one, and which of `contents`.
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
            rows, columns = (torch.from_numpy(index).to(given.device) for index in (owners, at))
            summed = summed.index_add(0, rows, given[columns])
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
            contents[modality], at = np.unique(own.draw(items[having], random), return_inverse=True)
            parts[modality] = (having, at)
    return Draw(items, contents, parts)


def item_vectors(corpus: Corpus, vectors: ContentVectors) -> Float32[np.ndarray, "items dim"]:
    """Unit vectors of all items, from all their contents; zero where there are none.

    Each modality counts alike, however many contents an item has of it.
    """
    dim = next(iter(vectors.values())).shape[1]
    summed = np.zeros((len(corpus), dim), dtype=np.float32)
    for modality, given in vectors.items():
        summed += unit((corpus.contents[modality].matrix @ given).astype(np.float32))
    return unit(summed)
