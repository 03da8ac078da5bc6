"""Image-text models of transformers (CLIP, SigLIP and others) as encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmrec.encoders.contents import checked_image, checked_text
from mmrec.encoders.hub.base import JointEncoder
from mmrec.encoders.hub.loading import features_of, load_network, once
from mmrec.encoders.hub.preprocessing import image_side, padded_patches, patches
from mmrec.encoders.hub.source import read_json
from mmrec.encoders.hub.tokens import Tokens, load_tokens, token_batch
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality


def use_exact_positions(network: nn.Module) -> None:
    """Have all SigLIP 2 vision embeddings of a network resize their positions with `resized_positions`."""
    from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings  # noqa: PLC0415 (takes seconds)

    for module in network.modules():
        if isinstance(module, Siglip2VisionEmbeddings):
            vars(module)["resize_positional_embeddings"] = resized_positions


def resized_positions(
    positional_embeddings: Float[Tensor, "height width dim"],
    spatial_shapes: Int[Tensor, "batch 2"],
    max_length: int,
) -> Float[Tensor, "batch max_length dim"]:
    """Return the positions of each image's patches, row by row, then zeros, from the learned grid.

    Replaces transformers' own, whose CPU version is wrong for images of one column of patches; hence the names.
    `spatial_shapes` are rows and columns of patches of each image.
    """
    grid = positional_embeddings.to(torch.float32)
    height, width, dim = grid.shape
    made = grid.new_zeros(len(spatial_shapes), max_length, dim)
    for image, (rows, columns) in enumerate(spatial_shapes.tolist()):
        down, across = (_resampling_weights(*sizes).to(grid.device) for sizes in ((height, rows), (width, columns)))
        # (rows, height) @ (height, width * dim), then (columns, width) @ (rows, width, dim)
        tall = (down @ grid.reshape(height, width * dim)).reshape(rows, width, dim)
        made[image, : rows * columns] = (across @ tall).reshape(rows * columns, dim)
    return made.to(positional_embeddings.dtype)


@lru_cache(maxsize=1_024)
def _resampling_weights(size: int, wanted: int) -> Float[Tensor, "wanted size"]:
    """Bilinear, antialiased resampling weights of each old position in each new one; they sum to one."""
    step = size / wanted
    reach = max(step, 1.0)
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
    places = torch.arange(size, dtype=torch.float64) + 0.5
    weights = (1 - (places[None] - centres[:, None]).abs() / reach).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)


# Trained on texts padded to their full length, without a mask: padding is a part of what they read.
_READS_PADDING = {"siglip", "siglip2"}


@dataclass(frozen=True, eq=False)
class HubImageText(JointEncoder):
    """Image or text -> one space for both, so that text finds images. Weights are read at first use.

    `lower` has texts lower-cased first, where a model was trained so and its tokenizer does not do it.
    """

    _reads = (Modality.TEXT, Modality.IMAGE)

    lower: bool = False

    @property
    def image_side(self) -> int:
        """Longer side of an image, in pixels, beyond which nothing is gained."""
        return image_side(self._files.folder)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if that fails, or it lacks one of the two towers."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if not (hasattr(network, "get_text_features") and hasattr(network, "get_image_features")):
            raise EncoderError(f"{self.model} is a {type(network).__name__}, which does not join images and text.")
        use_exact_positions(network)
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own processor does. Raises MediaError if it cannot be encoded."""
        if modality is not Modality.TEXT:
            pixels = self._processor(checked_image(self.model, modality, content))
            siglip2 = pixels.shape[0] * pixels.shape[1] if self._config.model_type == "siglip2" else 0
            return Sample(pixels, cost=siglip2 or patches(pixels, self._config))
        numbers, truncated = self._tokens(checked_text(self.model, modality, content))
        cost = self._tokens.limit if self._reads_padding else len(numbers)
        return Sample(torch.tensor(numbers, dtype=torch.int32), cost=cost, truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        network: Any = self.module
        if modality is Modality.TEXT:
            tokens, real = token_batch(samples, self._tokens, whole_length=self._reads_padding)
            mask = {} if self._reads_padding else {"attention_mask": self.to_device(real.long())}
            found = network.get_text_features(input_ids=self.to_device(tokens), **mask)
        else:
            found = network.get_image_features(**self._images(samples))
        return {self._space.name: unit_rows(features_of(found))}

    def _images(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        if self._config.model_type != "siglip2":
            return {"pixel_values": self.to_device(torch.stack([sample.tensor for sample in samples])).to(self.dtype)}
        pixels, real, shapes = padded_patches([sample.tensor for sample in samples])
        pixels, real = self.to_device(pixels).to(self.dtype), self.to_device(real)
        # The shapes are read as plain numbers; on a GPU each of them would be waited for.
        return {"pixel_values": pixels, "pixel_attention_mask": real, "spatial_shapes": shapes}

    def _dim(self) -> int:
        return self._cached_dim("dimension of an image-text model", lambda: _joint_dim(self._config))

    def _settings(self) -> dict[str, object]:
        # Version 2 of SigLIP 2: positions of images of one column of patches, which torch gets wrong on the CPU.
        version = 2 if read_json(self._files.folder / "config.json").get("model_type") == "siglip2" else 1
        return {"kind": "image-text", "lower": self.lower, "version": version}

    @once
    def _tokens(self) -> Tokens:
        most = self._config.text_config.max_position_embeddings
        return load_tokens(self._files.folder, None, most, lower=self.lower)

    @property
    def _reads_padding(self) -> bool:
        return self._config.model_type in _READS_PADDING


def _joint_dim(config: Any) -> int:  # noqa: ANN401
    text = getattr(config, "text_config", None)
    named = ((config, "projection_dim"), (text, "projection_size"), (text, "projection_dim"), (text, "hidden_size"))
    for source, key in named:
        if isinstance(found := getattr(source, key, None), int):
            return found
    raise EncoderError(f"A {config.model_type} model does not join images and text. Name another encoder for it.")
