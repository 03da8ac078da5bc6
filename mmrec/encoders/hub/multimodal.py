"""Multimodal sentence-transformers models as encoders."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.hub.loading import check_items, explained, once, quiet, shared_space
from mmrec.encoders.hub.preprocessing import checked_picture, checked_sound, resampled
from mmrec.encoders.hub.sentence_config import read_modules
from mmrec.encoders.hub.source import ModelFiles, find_model, noted, read_json, space_name
from mmrec.encoders.protocol import Sample, Vectors, fingerprint
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError, MediaError
from mmrec.types import Content, Modality, Space

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


def load_sentence_transformer(
    folder: Path, kinds: list[str], device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """Return the model in a folder, whose modules are of the given kinds; none of its own code is run.

    Raises EncoderError where the extra is not installed, or the model cannot be loaded.
    """
    _check_kinds(folder, kinds)
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise EncoderError(
            "Models of sentence-transformers need an extra. Install it: pip install 'mmrec[multimodal]'"
        ) from error
    with quiet(), explained(f"The model in {folder}", "See that it is whole, and that sentence-transformers knows it."):
        model = SentenceTransformer(
            str(folder),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32, "weights_only": True},
        )
    moved: torch.nn.Module = model.to(device, dtype).eval()
    return moved


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


def to_device(features: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch's tensors on a device, those of numbers in the network's format."""
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in features.items()}
    return {
        name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in moved.items()
    }


_CHARACTERS = 65_536
_SECONDS = 30  # what is heard of a sound
# Costs in tokens: four letters of a text, 28 x 28 pixels of a picture, 40 ms of a sound.
_LETTERS, _PIXELS, _PER_SECOND = 4, 28 * 28, 25
_QUERY, _DOCUMENT = 1, 0


@dataclass(frozen=True, eq=False)
class HubMultimodal:
    """Text, picture or sound, whichever the model reads -> one space for all of them.

    What a model reads is in none of its files: the first time it is loaded to be asked, and that is kept on disk.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        items: Which modalities of items are read, as in ``["image"]``; all where None. Queries may be any.
        dim: How many numbers of a vector are kept, for models trained to be cut; all where None.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    revision: str | None = None
    name: str | None = None
    items: Sequence[str] | None = None
    dim: int | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space. Raises EncoderError where the model cannot be had, or `items` names what it does not read."""
        check_items(self.items, self._able)
        return shared_space(self._space, self._able, self.items)

    @property
    def query_spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for all that the model reads."""
        return shared_space(self._space, self._able)

    @property
    def batch_cost(self) -> int:
        """Tokens a batch."""
        return 2_048 if self.device.type == "cpu" else 65_536

    @once
    def module(self) -> nn.Module:
        """The model, loaded at first use. Raises EncoderError where it cannot be, or the extra is not installed."""
        folder = self._files.with_weights()
        kinds = [kind for kind, _ in read_modules(folder)]
        return load_sentence_transformer(folder, kinds, self.device, self.dtype)

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Check one content of an item, and pack it. Raises MediaError where it cannot be encoded."""
        return self._prepare(modality, content, _DOCUMENT)

    def prepare_query(self, modality: Modality, content: Content) -> Sample:
        """Check one content of a query, and pack it; a text gets the model's prompt for queries. Raises MediaError."""
        return self._prepare(modality, content, _QUERY)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        alike: dict[tuple[int, int], list[int]] = {}
        for number, sample in enumerate(samples):
            alike.setdefault(_likeness(modality, sample), []).append(number)
        rows: list[Tensor | None] = [None] * len(samples)
        for (kind, _), numbers in alike.items():
            made = self._forward(modality, [samples[number] for number in numbers], kind)
            for number, row in zip(numbers, made, strict=True):
                rows[number] = row
        vectors = torch.stack([row for row in rows if row is not None])
        return {self._space.name: unit_rows(vectors[:, : self._space.dim])}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of one modality into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

    def _prepare(self, modality: Modality, content: Content, kind: int) -> Sample:
        if modality not in self._able:
            raise EncoderError(f"{self.model} reads {', '.join(self._able)}, and was given {modality}.")
        if modality is Modality.IMAGE:
            picture = checked_picture(self.model, modality, content)
            packed = torch.from_numpy(np.array(picture))
            return Sample(packed, cost=max(1, picture.width * picture.height // _PIXELS))
        if modality is Modality.AUDIO:
            rate = int(self._about["rate"])
            samples = resampled(checked_sound(self.model, modality, content), rate)
            heard = torch.from_numpy(samples[: _SECONDS * rate].copy())
            return Sample(heard, max(1, _PER_SECOND * len(heard) // rate), truncated=len(samples) > len(heard))
        return _packed_text(self.model, content, kind)

    def _forward(self, modality: Modality, samples: Sequence[Sample], kind: int) -> Tensor:
        model: Any = self.module
        task = "query" if kind == _QUERY else "document"
        prompt = model.prompts.get(task) or None if modality is Modality.TEXT else None
        contents = [self._unpacked(modality, sample.tensor) for sample in samples]
        with explained(f"A {modality} for the model {self.model}", "See that its processor and templates are whole."):
            made = model.preprocess(contents, prompt=prompt, task=task)
        features = to_device(made, self.device, self.dtype)
        vectors: Tensor = model(features, task=task)["sentence_embedding"]
        return vectors

    def _unpacked(self, modality: Modality, packed: Tensor) -> object:
        if modality is Modality.TEXT:
            return packed[1:].numpy().tobytes().decode()
        if modality is Modality.IMAGE:
            return Image.fromarray(packed.numpy())
        return {"array": packed.numpy(), "sampling_rate": int(self._about["rate"])}

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _about(self) -> Mapping[str, int | str]:
        return noted(self._ask, pin=self._files.pin, of="what a multimodal model reads", version=1)

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
            reads.remove(Modality.AUDIO)  # at which rate it hears is not to be found out
        return {"dim": int(model.get_embedding_dimension()), "reads": json.dumps(reads), "rate": max(rates, default=0)}

    @property
    def _able(self) -> tuple[Modality, ...]:
        return tuple(Modality(name) for name in json.loads(str(self._about["reads"])))

    @once
    def _space(self) -> Space:
        full = int(self._about["dim"])
        kept = min(self.dim or full, full)
        decided = fingerprint(pin=self._files.pin, kind="multimodal", dim=kept, seconds=_SECONDS, version=1)
        return Space(space_name(self.model, self.name), kept, decided)


def _packed_text(who: str, content: Content, kind: int) -> Sample:
    if not isinstance(content, str):
        raise EncoderError(f"{who} reads texts as str, and was given {type(content).__name__}.")
    if not content.strip():
        raise MediaError(f"The text is empty or blank ({len(content)} characters).")
    try:
        letters = content[:_CHARACTERS].encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"The text is not valid Unicode: a lone surrogate at character {error.start}.") from error
    packed = torch.frombuffer(bytearray([kind, *letters]), dtype=torch.uint8)
    return Sample(packed, cost=1 + len(letters) // _LETTERS, truncated=len(content) > _CHARACTERS)


def _likeness(modality: Modality, sample: Sample) -> tuple[int, int]:
    """What samples must share to be encoded together: texts the prompt, sounds the length.

    Networks of sounds mask what is padded in their attention, but neither in their first layers nor in the pooling.
    """
    if modality is Modality.TEXT:
        return int(sample.tensor[0]), 0
    return _DOCUMENT, len(sample.tensor) if modality is Modality.AUDIO else 0
