"""Embed contents with the towers, in parts that fit into memory, shared over the processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.samples import Samples
from mmrec.finetuning.towers import ContentTower
from mmrec.types import Modality

__all__ = ["Embedder", "Part", "Parts"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Contents that are embedded at once.

    Attributes:
        modality: What they are.
        at: Where they are in the batch.
        places: Where they are in the corpus.

    """

    modality: Modality
    at: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Cuts batches up: contents of like cost together, as little of them is then padding.

    Attributes:
        towers: What embeds them.
        samples: Who knows their costs.
        cost: What a part may cost; 0 for what each tower says.
        least: Parts at the least, of each modality, where it has as many contents.

    """

    towers: Mapping[Modality, ContentTower]
    samples: Samples
    cost: int = 0
    least: int = 1

    def of(self, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> list[Part]:
        """Return all parts of a batch, the most costly contents of each modality first."""
        return [part for modality, places in contents.items() for part in self._cut(modality, places)]

    def _cut(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> list[Part]:
        costs = self.samples.costs(modality)[places]
        order = np.argsort(-costs, kind="stable")
        most = self.cost or self.towers[modality].batch_cost
        evenly = -(-len(places) // self.least)
        parts, start = [], 0
        while start < len(order):
            size = max(1, min(evenly, most // max(1, int(costs[order[start]]))))
            at = order[start : start + size]
            parts.append(Part(modality, at, places[at]))
            start += size
        return parts


class Embedder:
    """Embeds parts of batches, each by one of the processes."""

    def __init__(self, parts: Parts, accelerator: Accelerator) -> None:
        self.parts, self.accelerator = parts, accelerator
        self.towers = parts.towers
        self.networks = nn.ModuleDict({str(name): self.towers[name].network for name in sorted(self.towers)})

    def own(self, parts: list[Part]) -> list[tuple[int, Part]]:
        """The parts of this process, with their numbers."""
        return list(enumerate(parts))[self.accelerator.process_index :: self.accelerator.num_processes]

    def embed(self, part: Part) -> Tensor:
        """Unit vectors of a part, in float32, on the accelerator's device whatever device its tower is on."""
        tower = self.towers[part.modality]
        with self.accelerator.autocast():
            vectors = tower.embed(self.parts.samples.take(part.modality, part.places))
        return vectors.to(self.accelerator.device, torch.float32)

    def empty(self, sizes: Mapping[Modality, int]) -> dict[Modality, Tensor]:
        """Room for vectors."""
        device = self.accelerator.device
        return {name: torch.zeros(size, self.towers[name].dim, device=device) for name, size in sizes.items()}

    def joined(self, vectors: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """What each process filled in, put together: a row is zero everywhere but where it was embedded."""
        return {name: self.accelerator.reduce(some, "sum") for name, some in vectors.items()}

    @torch.no_grad()
    def all(self, corpus: Corpus) -> ContentVectors:
        """Vectors of all contents of a corpus, as a service would have them: nothing is dropped."""
        vectors = self.empty({modality: len(own) for modality, own in corpus.contents.items()})
        with self.judging():
            parts = self.parts.of({modality: np.arange(len(own)) for modality, own in corpus.contents.items()})
            mine = [part for _, part in self.own(parts)]
            for part, following in zip(mine, [*mine[1:], None], strict=True):
                if following is not None:
                    self.parts.samples.expect(following.modality, following.places)
                vectors[part.modality][torch.from_numpy(part.at).to(self.accelerator.device)] = self.embed(part)
        return {name: some.cpu().numpy() for name, some in self.joined(vectors).items()}

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Have the networks as they are used for a while, and then again as they were."""
        was = self.networks.training
        self.networks.eval()
        try:
            yield
        finally:
            if was:
                self.learning()

    def learning(self) -> None:
        """Let the networks learn; statistics of batches stay as they are, or contents would depend on their mates."""
        self.networks.train()
        for module in self.networks.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
