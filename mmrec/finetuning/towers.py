"""Towers that fine-tuning trains: a head on stored vectors, or an encoder with an optional head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.head import Head
from mmrec.encoders.presets import load_encoders, read_encoder_specs
from mmrec.encoders.protocol import Encoder, Sample
from mmrec.encoders.queries import query_spaces
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import UsageError
from mmrec.finetuning.config import TowerSettings
from mmrec.types import Content, Modality, Space


@runtime_checkable
class ContentTower(Protocol):
    """What embeds one modality: an encoder, or its stored vectors, and an optional head.

    Two towers may share a network, as those of a joint model do.
    """

    @property
    def modality(self) -> Modality:
        """What it reads."""

    @property
    def dim(self) -> int:
        """Length of its vectors; the same for all towers that are aligned with each other."""

    @property
    def network(self) -> nn.Module:
        """All its weights. Those that ask for gradients are trained, and no others."""

    @property
    def batch_cost(self) -> int:
        """The batch size, in units of `Sample.cost`, that is fastest."""

    def prepare(self, content: Content) -> Sample:
        """Preprocess one content, in any thread. Raises MediaError where it cannot be encoded."""

    def embed(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        """Unit vectors in float32, through which gradients flow to all that is trained."""


@dataclass(frozen=True, eq=False)
class EncoderSource:
    """One encoder, not shared, since its network is trained in place, and how it is built."""

    spec: EncoderSpec
    encoder: Encoder

    def spaces(self, modality: Modality) -> tuple[Space, ...]:
        """Return the spaces that items or queries of a modality are encoded into."""
        item = self.encoder.spaces.get(modality, ())
        return tuple(dict.fromkeys([*item, *query_spaces(self.encoder).get(modality, ())]))

    def by_name(self) -> Mapping[str, Space]:
        """Return all its spaces by name."""
        return {space.name: space for modality in Modality for space in self.spaces(modality)}


def load_sources(
    preset_or_path: str | Path = "packaged", *, device: str = "auto", trust_code: bool = False
) -> tuple[EncoderSource, ...]:
    """Build the encoders of a preset, a TOML file or a folder for training, in float32. As `load_encoders`."""
    specs = read_encoder_specs(preset_or_path)
    encoders = load_encoders(preset_or_path, device=device, trust_code=trust_code)
    return tuple(EncoderSource(spec, encoder) for spec, encoder in zip(specs, encoders, strict=True))


class TowerNetwork(nn.Module):
    """An encoder's network and a head.

    `train` lets the head drop activations. The encoder keeps its batch statistics and drops nothing unless that was
    asked for: what it computes in training is what it computes later.
    """

    def __init__(self, encoder: nn.Module, head: Head | None, settings: TowerSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._settings = settings
        self.eval()

    def train(self, mode: bool = True) -> "TowerNetwork":
        """Set training or evaluation."""
        self.training = mode
        if self.head is not None:
            self.head.train(mode)
        self.encoder.train(mode and self._settings.dropout)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 -- all kinds' one base
                module.train(mode and self._settings.batch_statistics)
        return self


@dataclass(frozen=True, eq=False)
class _SourceTower:
    """A tower that starts from one encoder; without a head its vectors lie in the space of that encoder."""

    modality: Modality
    source: EncoderSource
    space: Space
    settings: TowerSettings

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        head: Head | None = getattr(self, "head", None)
        return self.space.dim if head is None else head.config.dim


@dataclass(frozen=True, eq=False)
class EncoderTower(_SourceTower):
    """Contents -> an encoder -> a head, if there is one."""

    network: TowerNetwork

    @property
    def head(self) -> Head | None:
        """The head, if there is one."""
        return self.network.head

    @property
    def batch_cost(self) -> int:
        """The encoder's own."""
        return self.source.encoder.batch_cost

    def prepare(self, content: Content) -> Sample:
        """Preprocess one content as the encoder does. Raises MediaError where it cannot be encoded."""
        return self.source.encoder.prepare(self.modality, content)

    def embed(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        """Return unit vectors through which gradients flow. Raises UsageError where the encoder cannot be trained."""
        encoder: Any = self.source.encoder
        if not hasattr(encoder, "embed"):
            raise UsageError(
                f"{self.source.spec.factory} has no `embed`, so its own weights cannot be trained. Train a head on its "
                'vectors (how = "head"), or give it `embed`: `encode` as tensors with gradients.'
            )
        found: dict[str, Tensor] = encoder.embed(self.modality, samples)
        return found[self.space.name] if self.head is None else cast("Tensor", self.head(found))


_CONTENTS_PER_BATCH = 4_096


@dataclass(frozen=True, eq=False)
class VectorTower(_SourceTower):
    """Stored vectors of a content -> a head, or the vector itself. The encoder stays as it is."""

    head: Head | None = None

    @property
    def network(self) -> nn.Module:
        """The head, or a module without weights."""
        return self.head if self.head is not None else nn.Identity()

    @property
    def batch_cost(self) -> int:
        """Contents a batch: each costs one."""
        return _CONTENTS_PER_BATCH

    @property
    def inputs(self) -> tuple[tuple[str, int], ...]:
        """The spaces of which a sample has vectors, and their lengths, in the order in which they lie in it."""
        return ((self.space.name, self.space.dim),) if self.head is None else self.head.config.inputs

    def split(self, rows: Float[Tensor, "n width"]) -> dict[str, Float[Tensor, "n _"]]:
        """Return the vectors of each of `inputs` in rows of samples."""
        parts = torch.split(rows, [dim for _, dim in self.inputs], dim=1)
        return {name: part for (name, _), part in zip(self.inputs, parts, strict=True)}

    def sample(self, vectors: Mapping[str, Float32[np.ndarray, " _"]]) -> Sample:
        """Return a content's stored vectors as a sample; `vectors` has those of `inputs` by the name of their space."""
        return Sample(torch.from_numpy(np.concatenate([vectors[name] for name, _ in self.inputs])), cost=1)

    def prepare(self, content: Content) -> Sample:
        """Encode one content that has no stored vectors. Raises MediaError where it cannot be encoded."""
        encoder = self.source.encoder
        made = encoder.encode(self.modality, [encoder.prepare(self.modality, content)])
        return self.sample({name: made[name][0] for name, _ in self.inputs})

    def embed(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        """Return unit vectors in float32, through which gradients flow to the head."""
        rows = torch.stack([sample.tensor for sample in samples])
        if self.head is None:
            return unit_rows(rows)
        return cast("Tensor", self.head(self.split(rows.to(self.head.shift.device))))
