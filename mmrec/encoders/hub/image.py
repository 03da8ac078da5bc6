"""Pictures alone: DINOv2 and its like, ViT, ConvNeXt, Swin and other networks of pictures, through transformers.

[[encoders]]
factory = "mmrec.encoders.hub.image.HubImage"
model = "facebook/dinov2-small"
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.hub.loading import load_config, load_network, once
from mmrec.encoders.hub.preprocessing import checked_picture, image_side, load_processor, patches
from mmrec.encoders.hub.source import ModelFiles, find_model, noted, space_name
from mmrec.encoders.protocol import Sample, Vectors, fingerprint
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality, Space

_POOLINGS = ("cls", "mean", "pooler")


@dataclass(frozen=True, eq=False)
class HubImage:
    """Picture -> the vectors of a network of pictures. Weights are read at first use.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        pooling: ``cls``, ``mean`` (of the patches) or ``pooler`` (the model's own); where None the class token of
            networks that have one, of others the mean.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    revision: str | None = None
    name: str | None = None
    pooling: str | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in _POOLINGS:
            raise UsageError(f"There is no pooling {self.pooling!r} of pictures. Allowed: {', '.join(_POOLINGS)}.")

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space for pictures. Raises EncoderError where the model's files are not to be had."""
        return {Modality.IMAGE: (self._space,)}

    @property
    def batch_cost(self) -> int:
        """Patches of pictures a batch."""
        return 2_048 if self.device.type == "cpu" else 65_536

    @property
    def image_side(self) -> int:
        """Longer side of a picture, in pixels, beyond which nothing is gained."""
        return image_side(self._files.folder)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError where it cannot be."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if self.pooling == "cls" and not _has_class_token(network):
            raise EncoderError(f"{self.model} has no class token. Set pooling to mean, or leave it out.")
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one picture as the model's own processor does. Raises MediaError where it cannot be encoded."""
        pixels = self._processor(checked_picture(self.model, modality, content))
        return Sample(pixels, cost=patches(pixels, self._config))

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        pixels = torch.stack([sample.tensor for sample in samples]).to(self.device, self.dtype)
        network: Any = self.module
        found = network(pixel_values=pixels)
        return {self._space.name: unit_rows(self._pooled(found))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of pictures into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

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

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _space(self) -> Space:
        pin = self._files.pin
        dim = noted(lambda: {"dim": _width(self._config)}, pin=pin, of="width of a picture model", version=1)["dim"]
        decided = fingerprint(pin=pin, kind="image", pooling=self.pooling, version=1)
        return Space(space_name(self.model, self.name), int(dim), decided)

    @once
    def _config(self) -> Any:  # noqa: ANN401
        return load_config(self._files.folder)

    @once
    def _processor(self) -> Callable[[Image.Image], Float[Tensor, "_ _ _"]]:
        return load_processor(self._files.folder)


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
        f"A {config.model_type} model is none of pictures that is read here. Read models of timm with "
        "mmrec.encoders.hub.timm_image.TimmImage, and name another encoder for others."
    )
