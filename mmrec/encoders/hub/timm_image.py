"""Image models of timm as encoders, with the weights and the preprocessing of their own directory or repository.

[[encoders]]
factory = "mmrec.encoders.hub.timm_image.TimmImage"
model = "timm/vit_small_patch14_dinov2.lvd142m"
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.contents import checked_image
from mmrec.encoders.hub.base import HubEncoder
from mmrec.encoders.hub.loading import explain_errors, once
from mmrec.encoders.hub.preprocessing import longer_side_for_crop
from mmrec.encoders.hub.source import read_json
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality


@dataclass(frozen=True, eq=False)
class TimmImage(HubEncoder):
    """Image -> the features before a timm network's classifier. Weights are read at first use."""

    _reads = (Modality.IMAGE,)

    @property
    def image_side(self) -> int:
        """Longer side of an image, in pixels, beyond which nothing is gained."""
        return longer_side_for_crop(max(self._data["input_size"][1:]))

    @once
    def module(self) -> nn.Module:
        """The network without its classifier, loaded at first use. Raises EncoderError if that fails."""
        network = _create(self._files.with_weights(), pretrained=True)
        return network.to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one image as the network was evaluated. Raises MediaError if it cannot be encoded."""
        pixels = self._transform(checked_image(self.model, modality, content))
        return Sample(pixels, cost=max(1, pixels.shape[1] * pixels.shape[2] // 256))

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        pixels = self.to_device(torch.stack([sample.tensor for sample in samples])).to(self.dtype)
        return {self._space.name: unit_rows(self.module(pixels))}

    def _dim(self) -> int:
        return self._cached_dim("dimension of a timm model", lambda: _width(self._files.folder))

    def _settings(self) -> dict[str, object]:
        return {"kind": "timm", "version": 1}

    @once
    def _data(self) -> Mapping[str, Any]:
        with torch.device("meta"):
            return dict(_timm_data().resolve_model_data_config(_create(self._files.folder, pretrained=False)))

    @once
    def _transform(self) -> Callable[[Image.Image], Float[Tensor, "3 height width"]]:
        made: Callable[[Image.Image], Tensor] = _timm_data().create_transform(**self._data, is_training=False)
        return made


def _width(folder: Path) -> int:
    """Numbers of a vector, by a network without weights."""
    with torch.device("meta"):
        network = _create(folder, pretrained=False).eval()
        size = _timm_data().resolve_model_data_config(network)["input_size"]
        return int(network(torch.zeros(1, *size)).shape[1])


def _create(folder: Path, *, pretrained: bool) -> nn.Module:
    import timm  # noqa: PLC0415 (takes seconds)

    if "architecture" not in read_json(folder / "config.json"):
        raise EncoderError(
            f"{folder} has no config.json that names one of timm's architectures. Read models of transformers with "
            "mmrec.encoders.hub.image.HubImage."
        )
    with explain_errors(f"The model in {folder}", "See that it is whole, and that this timm knows its kind."):
        made: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=pretrained, num_classes=0)
    return made


def _timm_data() -> Any:  # noqa: ANN401 -- it declares neither types nor what it exports
    import timm.data  # noqa: PLC0415 (takes seconds)

    return timm.data
