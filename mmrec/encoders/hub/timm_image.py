"""Pictures alone: any network of timm, with the weights and the preprocessing of its own directory or repository.

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

from mmrec.encoders.hub.loading import explained, once
from mmrec.encoders.hub.preprocessing import checked_picture, with_crop
from mmrec.encoders.hub.source import ModelFiles, find_model, noted, read_json, space_name
from mmrec.encoders.protocol import Sample, Vectors, fingerprint
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Space


@dataclass(frozen=True, eq=False)
class TimmImage:
    """Picture -> the features before a timm network's classifier. Weights are read at first use.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    revision: str | None = None
    name: str | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space for pictures. Raises EncoderError where the model's files are not to be had."""
        return {Modality.IMAGE: (self._space,)}

    @property
    def batch_cost(self) -> int:
        """Patches of 16 x 16 pixels a batch."""
        return 2_048 if self.device.type == "cpu" else 65_536

    @property
    def image_side(self) -> int:
        """Longer side of a picture, in pixels, beyond which nothing is gained."""
        return with_crop(max(self._data["input_size"][1:]))

    @once
    def module(self) -> nn.Module:
        """The network without its classifier, loaded at first use. Raises EncoderError where it cannot be."""
        network = _create(self._files.with_weights(), pretrained=True)
        return network.to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one picture as the network was evaluated. Raises MediaError where it cannot be encoded."""
        pixels = self._transform(checked_picture(self.model, modality, content))
        return Sample(pixels, cost=max(1, pixels.shape[1] * pixels.shape[2] // 256))

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        pixels = torch.stack([sample.tensor for sample in samples]).to(self.device, self.dtype)
        return {self._space.name: unit_rows(self.module(pixels))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of pictures into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _space(self) -> Space:
        files = self._files
        dim = noted(lambda: {"dim": _width(files.folder)}, pin=files.pin, of="width of a timm model", version=1)["dim"]
        return Space(space_name(self.model, self.name), int(dim), fingerprint(pin=files.pin, kind="timm", version=1))

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
    with explained(f"The model in {folder}", "See that it is whole, and that this timm knows its kind."):
        made: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=pretrained, num_classes=0)
    return made


def _timm_data() -> Any:  # noqa: ANN401 -- it declares neither types nor what it exports
    import timm.data  # noqa: PLC0415 (takes seconds)

    return timm.data
