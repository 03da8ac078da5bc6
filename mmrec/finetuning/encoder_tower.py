"""A tower whose encoder runs at every step, since its weights change or contents are augmented."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from mmrec.encoders.head import Head
from mmrec.encoders.protocol import Sample
from mmrec.errors import UsageError
from mmrec.finetuning.sources import Source
from mmrec.finetuning.tower_settings import TowerSettings
from mmrec.items import Content
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["EncoderTower", "TowerNetwork"]


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
class EncoderTower:
    """Contents -> an encoder -> a head, if there is one.

    Attributes:
        modality: What it reads.
        source: The encoder; two towers of a joint model share it.
        space: Where its vectors lie where there is no head.
        settings: What is trained.
        network: All its weights; those that ask for gradients are trained.

    """

    modality: Modality
    source: Source
    space: Space
    settings: TowerSettings
    network: TowerNetwork

    @property
    def head(self) -> Head | None:
        """The head, if there is one."""
        return self.network.head

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.space.dim if self.head is None else self.head.config.dim

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
