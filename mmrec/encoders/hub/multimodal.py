"""Multimodal sentence-transformers models as encoders."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.contents import checked_audio, checked_image, checked_text, resampled
from mmrec.encoders.hub.base import JointEncoder
from mmrec.encoders.hub.loading import explain_errors, once, quiet
from mmrec.encoders.hub.sentence_config import read_modules
from mmrec.encoders.hub.source import cached_json, read_json
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import forward_alike, unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality

# Modules that load nothing but their own folder's tensors, tokenizer and processor.
_KNOWN: Final = (
    "CLIPModel",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Normalize",
    "Pooling",
    "Router",
    "Transformer",
    "WeightedLayerPooling",
)
_OWN: Final = re.compile(r"sentence_transformers(\.\w+)*\.(\w+)", re.ASCII)


def _check_kinds(folder: Path, kinds: list[str]) -> None:
    """Raise EncoderError for other modules than known ones, those within a router included."""
    routers = [read_json(path) for name in ("router_config.json", "config.json") for path in folder.rglob(name)]
    routed = [one for found in routers if isinstance(types := found.get("types"), dict) for one in types.values()]
    for kind in [*kinds, *map(str, routed)]:
        named = _OWN.fullmatch(kind)
        if named is None or named[2] not in _KNOWN:
            raise EncoderError(
                f"The model in {folder} has a module of the kind {kind[:80]!r}; read are sentence-transformers' own "
                f"{', '.join(_KNOWN)}. Name another model: code of its own is never run."
            )
    about = read_json(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if about != "SentenceTransformer":
        raise EncoderError(f"The model in {folder} is a {about!r}, which makes no vectors of this kind. Name another.")


_CHARACTERS = 65_536
_SECONDS = 30  # encoded of a clip
# Costs in tokens: four letters of a text, 28 x 28 pixels of an image, 40 ms of audio.
_LETTERS, _PIXELS, _PER_SECOND = 4, 28 * 28, 25
_QUERY, _DOCUMENT = 1, 0


@dataclass(frozen=True, eq=False)
class HubMultimodal(JointEncoder):
    """Text, image or audio, whichever the model reads -> one space for all of them.

    What a model reads is in none of its files: it is loaded once to find out, and the result is cached on disk.

    Attributes:
        dim: How many numbers of a vector are kept, for models trained to be cut; all where None.

    """

    dim: int | None = None

    @once
    def module(self) -> nn.Module:
        """The model, loaded at first use. Raises EncoderError if that fails."""
        folder = self._files.with_weights()
        _check_kinds(folder, [kind for kind, _ in read_modules(folder)])
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (takes seconds)

        advice = "See that it is whole, and that sentence-transformers knows it."
        with quiet(), explain_errors(f"The model in {folder}", advice):
            model: nn.Module = SentenceTransformer(
                str(folder),
                device=str(self.device),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32, "weights_only": True},
            )
        return model.to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Check one content of an item, and pack it. Raises MediaError if it cannot be encoded."""
        return self._prepare(modality, content, _DOCUMENT)

    def prepare_query(self, modality: Modality, content: Content) -> Sample:
        """Check one content of a query, and pack it; a text gets the model's prompt for queries. Raises MediaError."""
        return self._prepare(modality, content, _QUERY)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        vectors = forward_alike(samples, partial(_kind_of, modality), partial(self._forward, modality))
        return {self._space.name: unit_rows(vectors[:, : self._space.dim])}

    def _prepare(self, modality: Modality, content: Content, kind: int) -> Sample:
        if modality not in self._modalities:
            raise EncoderError(f"{self.model} reads {', '.join(self._modalities)}, and was given {modality}.")
        if modality is Modality.IMAGE:
            image = checked_image(self.model, modality, content)
            packed = torch.from_numpy(np.array(image))
            return Sample(packed, cost=max(1, image.width * image.height // _PIXELS))
        if modality is Modality.AUDIO:
            rate = int(self._about["rate"])
            audio = checked_audio(self.model, modality, content)
            samples = resampled(audio.samples, audio.rate, rate)
            kept = torch.from_numpy(samples[: _SECONDS * rate].copy())
            return Sample(kept, max(1, _PER_SECOND * len(kept) // rate), truncated=len(samples) > len(kept))
        return _packed_text(checked_text(self.model, modality, content), kind)

    def _forward(self, modality: Modality, samples: Sequence[Sample]) -> Tensor:
        model: Any = self.module
        task = "query" if _kind_of(modality, samples[0])[0] == _QUERY else "document"
        prompt = model.prompts.get(task) or None if modality is Modality.TEXT else None
        contents = [self._unpacked(modality, sample.tensor) for sample in samples]
        with explain_errors(f"A {modality} for the model {self.model}", "See that its processor is whole."):
            made = model.preprocess(contents, prompt=prompt, task=task)
        features = {name: self._on_device(value) for name, value in made.items()}
        vectors: Tensor = model(features, task=task)["sentence_embedding"]
        return vectors

    def _on_device(self, value: Any) -> Any:  # noqa: ANN401 - tensors, and what else a processor gives
        if not isinstance(value, torch.Tensor):
            return value
        return self.to_device(value).to(self.dtype if value.is_floating_point() else value.dtype)

    def _unpacked(self, modality: Modality, packed: Tensor) -> object:
        if modality is Modality.TEXT:
            return packed[1:].numpy().tobytes().decode()
        if modality is Modality.IMAGE:
            return Image.fromarray(packed.numpy())
        return {"array": packed.numpy(), "sampling_rate": int(self._about["rate"])}

    @once
    def _about(self) -> Mapping[str, int | str]:
        return cached_json(self._ask, pin=self._files.pin, of="what a multimodal model reads", version=1)

    def _ask(self) -> dict[str, int | str]:
        model: Any = self.module
        reads = [modality for modality in Modality if model.supports(str(modality))]
        rates = [
            rate
            for part in model.modules()
            if hasattr(part, "processor")
            for source in (part.processor, getattr(part.processor, "feature_extractor", None))
            if isinstance(rate := getattr(source, "sampling_rate", None), int)
        ]
        if Modality.AUDIO in reads and len(set(rates)) != 1:
            reads.remove(Modality.AUDIO)  # its sampling rate is unknown
        return {"dim": int(model.get_embedding_dimension()), "reads": json.dumps(reads), "rate": max(rates, default=0)}

    @property
    def _modalities(self) -> tuple[Modality, ...]:
        return tuple(Modality(name) for name in json.loads(str(self._about["reads"])))

    def _dim(self) -> int:
        full = int(self._about["dim"])
        return min(self.dim or full, full)

    def _settings(self) -> dict[str, object]:
        return {"kind": "multimodal", "dim": self._dim(), "seconds": _SECONDS, "version": 1}


def _packed_text(content: str, kind: int) -> Sample:
    letters = content[:_CHARACTERS].encode()
    packed = torch.frombuffer(bytearray([kind, *letters]), dtype=torch.uint8)
    return Sample(packed, cost=1 + len(letters) // _LETTERS, truncated=len(content) > _CHARACTERS)


def _kind_of(modality: Modality, sample: Sample) -> tuple[int, int]:
    """What samples must share to be encoded together: texts the prompt, audio clips the length.

    Audio networks mask what is padded in their attention, but neither in their first layers nor in the pooling.
    """
    if modality is Modality.TEXT:
        return int(sample.tensor[0]), 0
    return _DOCUMENT, len(sample.tensor) if modality is Modality.AUDIO else 0
