"""A tower on vectors that are there already: only a head is trained, or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmrec.encoders.head import Head
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows
from mmrec.finetuning.sources import Source
from mmrec.finetuning.tower_settings import TowerSettings
from mmrec.items import Content
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["VectorTower"]

_ROWS = 4_096


@dataclass(frozen=True, eq=False)
class VectorTower:
    """Stored vectors of a content -> a head, or the vector itself. The encoder stays as it is.

    Attributes:
        modality: What it reads.
        source: Whose vectors they are.
        space: Where its vectors lie where there is no head.
        settings: What is trained.
        head: The head, if there is one.

    """

    modality: Modality
    source: Source
    space: Space
    settings: TowerSettings
    head: Head | None = None

    @property
    def network(self) -> nn.Module:
        """The head, or a module without weights."""
        return self.head if self.head is not None else nn.Identity()

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.space.dim if self.head is None else self.head.config.dim

    @property
    def batch_cost(self) -> int:
        """Contents a batch: each costs one."""
        return _ROWS

    @property
    def inputs(self) -> tuple[tuple[str, int], ...]:
        """The spaces of which a sample has vectors, and their lengths, in the order in which they lie in it."""
        return ((self.space.name, self.space.dim),) if self.head is None else self.head.config.inputs

    def sample(self, vectors: Mapping[str, Float32[np.ndarray, " _"]]) -> Sample:
        """Return a content's stored vectors as a sample; `vectors` has those of `inputs` by the name of their space."""
        return Sample(torch.from_numpy(np.concatenate([vectors[name] for name, _ in self.inputs])), cost=1)

    def prepare(self, content: Content) -> Sample:
        """Encode one content on the spot, where it has no stored vectors. Raises MediaError where it cannot be."""
        encoder = self.source.encoder
        made = encoder.encode(self.modality, [encoder.prepare(self.modality, content)])
        return self.sample({name: made[name][0] for name, _ in self.inputs})

    def embed(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        """Return unit vectors in float32, through which gradients flow to the head."""
        rows = torch.stack([sample.tensor for sample in samples])
        if self.head is None:
            return unit_rows(rows)
        parts = torch.split(rows.to(self.head.shift.device), [dim for _, dim in self.inputs], dim=1)
        made: Tensor = self.head({name: part for (name, _), part in zip(self.inputs, parts, strict=True)})
        return made
