"""Pictures and texts in one space: any model of open_clip, with its own tokenizer and preprocessing.

[[encoders]]
factory = "mmrec.encoders.hub.open_clip.OpenClip"
model = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"

[[encoders]]
factory = "mmrec.encoders.hub.open_clip.OpenClip"
model = "ViT-B-32"                       # one of open_clip's architectures,
checkpoint = "/models/my-vit-b-32.pt"    # with weights of one's own
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.fingerprints import fingerprint
from mmrec.encoders.hub.joint import check_items, shared_space
from mmrec.encoders.hub.once import once
from mmrec.encoders.hub.open_clip_model import Architecture, find_architecture
from mmrec.encoders.hub.open_clip_texts import ClipTexts
from mmrec.encoders.hub.pictures import checked_picture, with_crop
from mmrec.encoders.hub.source import space_name
from mmrec.encoders.protocol import Sample, Vectors
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError
from mmrec.items import Content
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["OpenClip"]

_ABLE = (Modality.TEXT, Modality.IMAGE)


@dataclass(frozen=True, eq=False)
class OpenClip:
    """Picture or text -> one space for both, so that texts find pictures. Weights are read at first use.

    Attributes:
        model: A directory with ``open_clip_config.json`` and weights, a hub's id, or one of open_clip's architectures.
        checkpoint: File of an architecture's weights; only beside one of those.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        items: Which modalities of items are read, as in ``["image"]``; both where None. Queries may be either.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    checkpoint: str | None = None
    revision: str | None = None
    name: str | None = None
    items: Sequence[str] | None = None
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
    def picture_side(self) -> int:
        """Longer side of a picture, in pixels, beyond which nothing is gained."""
        return with_crop(self._architecture.side)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError where it cannot be."""
        return self._architecture.load().to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own transform and tokenizer do. Raises MediaError."""
        if modality is not Modality.TEXT:
            pixels = self._transform(checked_picture(self.model, modality, content))
            return Sample(pixels, cost=self._architecture.patches)
        if not isinstance(content, str):
            raise EncoderError(f"{self.model} reads texts as str, and was given {type(content).__name__}.")
        tokens, truncated = self._texts(content)
        return Sample(tokens, cost=len(tokens), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        network: Any = self.module
        batch = torch.stack([sample.tensor for sample in samples]).to(self.device)
        if modality is Modality.TEXT:
            return {self._space.name: unit_rows(network.encode_text(batch.long()))}
        return {self._space.name: unit_rows(network.encode_image(batch.to(self.dtype)))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of one modality into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

    @once
    def _architecture(self) -> Architecture:
        return find_architecture(self.model, self.checkpoint, self.revision)

    @once
    def _space(self) -> Space:
        architecture = self._architecture
        decided = fingerprint(pin=architecture.pin, kind="open_clip", version=1)
        return Space(space_name(self.model, self.name), architecture.dim, decided)

    @once
    def _transform(self) -> Callable[[Image.Image], Float[Tensor, "3 height width"]]:
        return cast("Callable[[Image.Image], Tensor]", self._architecture.transform())

    @once
    def _texts(self) -> ClipTexts:
        return ClipTexts(self._architecture.tokenizer())
