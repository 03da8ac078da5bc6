"""Image models of transformers (DINOv2, ViT, ConvNeXt, Swin and others) as encoders.

[[encoders]]
factory = "mmrec.encoders.hub.image.HubImage"
model = "facebook/dinov2-small"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrec.encoders.contents import checked_image
from mmrec.encoders.hub.base import HubEncoder
from mmrec.encoders.hub.loading import load_network, once
from mmrec.encoders.hub.preprocessing import image_side, patches
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality

_POOLINGS = ("cls", "mean", "pooler")


@dataclass(frozen=True, eq=False)
class HubImage(HubEncoder):
    """Image -> the vectors of an image model. Weights are read at first use.

    `pooling` is ``cls``, ``mean`` (of the patches) or ``pooler`` (the model's own); by default the class token of
    networks that have one, of others the mean.
    """

    _reads = (Modality.IMAGE,)

    pooling: str | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in _POOLINGS:
            raise UsageError(f"There is no pooling {self.pooling!r} of images. Allowed: {', '.join(_POOLINGS)}.")

    @property
    def image_side(self) -> int:
        """Longer side of an image, in pixels, beyond which nothing is gained."""
        return image_side(self._files.folder)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if that fails."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if self.pooling == "cls" and not _has_class_token(network):
            raise EncoderError(f"{self.model} has no class token. Set pooling to mean, or leave it out.")
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one image as the model's own processor does. Raises MediaError if it cannot be encoded."""
        pixels = self._processor(checked_image(self.model, modality, content))
        return Sample(pixels, cost=patches(pixels, self._config))

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        pixels = self.to_device(torch.stack([sample.tensor for sample in samples])).to(self.dtype)
        network: Any = self.module
        found = network(pixel_values=pixels)
        return {self._space.name: unit_rows(self._pooled(found))}

    def _pooled(self, found: Any) -> Float[Tensor, "n dim"]:  # noqa: ANN401
        states: Tensor = found.last_hidden_state
        has_class = _has_class_token(self.module)
        how = self.pooling or ("cls" if has_class else "mean")
        if how == "pooler":
            pooled: Tensor | None = getattr(found, "pooler_output", None)
            if pooled is None:
                raise EncoderError(f"{self.model} does not pool by itself. Set pooling to cls or mean.")
            return pooled.flatten(1)
        if states.ndim == 4:
            return states.mean(dim=(2, 3))
        if how == "cls":
            return states[:, 0]
        first = (1 + int(getattr(self._config, "num_register_tokens", 0) or 0)) if has_class else 0
        return states[:, first:].mean(dim=1)

    def _dim(self) -> int:
        return self._cached_dim("dimension of an image model", lambda: _width(self._config))

    def _settings(self) -> dict[str, object]:
        return {"kind": "image", "pooling": self.pooling, "version": 1}


def _has_class_token(network: nn.Module) -> bool:
    return any(name.rpartition(".")[2] == "cls_token" for name, _ in network.named_parameters())


def _width(config: Any) -> int:  # noqa: ANN401
    for key in ("hidden_size", "hidden_sizes", "embed_dim"):
        found = getattr(config, key, None)
        if isinstance(found, list | tuple) and found:
            return int(found[-1])
        if isinstance(found, int):
            return found
    raise EncoderError(
        f"A {config.model_type} model is not an image model that is read here. Read models of timm with "
        "mmrec.encoders.hub.timm_image.TimmImage, and name another encoder for others."
    )
