"""Image-text models of transformers (CLIP, SigLIP and others) as encoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.hub.loading import check_items, features_of, load_config, load_network, once, shared_space
from mmrec.encoders.hub.preprocessing import checked_picture, image_side, load_processor, padded_patches, patches
from mmrec.encoders.hub.source import ModelFiles, find_model, noted, read_json, space_name
from mmrec.encoders.hub.tokens import Tokens, load_tokens, token_batch
from mmrec.encoders.protocol import Sample, Vectors, fingerprint
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Space


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
    """Return the positions of each picture's patches, row by row, then zeros; the names are those of transformers.

    Args:
        positional_embeddings: The learned grid.
        spatial_shapes: Rows and columns of patches of each picture.
        max_length: Patches of the longest picture, padding included.

    """
    grid = positional_embeddings.to(torch.float32)
    height, width, dim = grid.shape
    made = grid.new_zeros(len(spatial_shapes), max_length, dim)
    for picture, (rows, columns) in enumerate(spatial_shapes.tolist()):
        down, across = (_triangles(*sizes).to(grid.device) for sizes in ((height, rows), (width, columns)))
        # (rows, height) @ (height, width * dim), then (columns, width) @ (rows, width, dim)
        tall = (down @ grid.reshape(height, width * dim)).reshape(rows, width, dim)
        made[picture, : rows * columns] = (across @ tall).reshape(rows * columns, dim)
    return made.to(positional_embeddings.dtype)


@lru_cache(maxsize=1_024)
def _triangles(size: int, wanted: int) -> Float[Tensor, "wanted size"]:
    """Weights of each old place in each new one; they sum to one. Where there are fewer places, the filter widens."""
    step = size / wanted
    reach = max(step, 1.0)
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
    places = torch.arange(size, dtype=torch.float64) + 0.5
    weights = (1 - (places[None] - centres[:, None]).abs() / reach).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32)


_ABLE = (Modality.TEXT, Modality.IMAGE)
# Trained on texts padded to their full length, without a mask: padding is a part of what they read.
_READS_PADDING = {"siglip", "siglip2"}


@dataclass(frozen=True, eq=False)
class HubImageText:
    """Picture or text -> one space for both, so that texts find pictures. Weights are read at first use.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        items: Which modalities of items are read, as in ``["image"]``; both where None. Queries may be either.
        lower: Whether texts are lower-cased first, where a model was trained so and its tokenizer does not do it.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    revision: str | None = None
    name: str | None = None
    items: Sequence[str] | None = None
    lower: bool = False
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        check_items(self.items, _ABLE)

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space. Raises EncoderError where the model's files are not to be had."""
        return shared_space(self._space, _ABLE, self.items)

    @property
    def query_spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for texts and pictures alike."""
        return shared_space(self._space, _ABLE)

    @property
    def batch_cost(self) -> int:
        """Tokens of texts and patches of pictures a batch."""
        return 2_048 if self.device.type == "cpu" else 65_536

    @property
    def image_side(self) -> int:
        """Longer side of a picture, in pixels, beyond which nothing is gained."""
        return image_side(self._files.folder)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError where it cannot be, or has no such two towers."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if not (hasattr(network, "get_text_features") and hasattr(network, "get_image_features")):
            raise EncoderError(f"{self.model} is a {type(network).__name__}, which does not join pictures and texts.")
        use_exact_positions(network)
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own processor does. Raises MediaError where it cannot be encoded."""
        if modality is not Modality.TEXT:
            pixels = self._processor(checked_picture(self.model, modality, content))
            siglip2 = pixels.shape[0] * pixels.shape[1] if self._config.model_type == "siglip2" else 0
            return Sample(pixels, cost=siglip2 or patches(pixels, self._config))
        if not isinstance(content, str):
            raise EncoderError(f"{self.model} reads texts as str, and was given {type(content).__name__}.")
        numbers, truncated = self._tokens(content)
        cost = self._tokens.limit if self._reads_padding else len(numbers)
        return Sample(torch.tensor(numbers, dtype=torch.int32), cost=cost, truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        network: Any = self.module
        if modality is Modality.TEXT:
            tokens, real = token_batch(samples, self._tokens, whole_length=self._reads_padding)
            mask = {} if self._reads_padding else {"attention_mask": real.long().to(self.device)}
            found = network.get_text_features(input_ids=tokens.to(self.device), **mask)
        else:
            found = network.get_image_features(**self._pictures(samples))
        return {self._space.name: unit_rows(features_of(found))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of one modality into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

    def _pictures(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        if self._config.model_type != "siglip2":
            return {"pixel_values": torch.stack([sample.tensor for sample in samples]).to(self.device, self.dtype)}
        pixels, real, shapes = padded_patches([sample.tensor for sample in samples])
        pixels, real = pixels.to(self.device, self.dtype), real.to(self.device)
        # The shapes are read as plain numbers; on a GPU each of them would be waited for.
        return {"pixel_values": pixels, "pixel_attention_mask": real, "spatial_shapes": shapes}

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _space(self) -> Space:
        pin = self._files.pin
        dim = noted(lambda: {"dim": _joint_dim(self._config)}, pin=pin, of="width of a joint model", version=1)["dim"]
        return Space(space_name(self.model, self.name), int(dim), self._decided)

    @property
    def _decided(self) -> str:
        # Version 2 of SigLIP 2: positions of pictures of one column of patches, which torch gets wrong on the CPU.
        version = 2 if read_json(self._files.folder / "config.json").get("model_type") == "siglip2" else 1
        return fingerprint(pin=self._files.pin, kind="image-text", lower=self.lower, version=version)

    @once
    def _config(self) -> Any:  # noqa: ANN401
        return load_config(self._files.folder)

    @once
    def _processor(self) -> Callable[[Image.Image], Float[Tensor, "_ _ _"]]:
        return load_processor(self._files.folder)

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
    raise EncoderError(f"A {config.model_type} model does not join pictures and texts. Name another encoder for it.")
