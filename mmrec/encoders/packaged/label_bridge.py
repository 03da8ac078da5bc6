"""A place in the text space for pictures and sounds, untrained: class probabilities times the classes' text vectors."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mmrec.encoders.fingerprints import fingerprint
from mmrec.encoders.packaged.label_cache import load_vectors, save_vectors
from mmrec.encoders.packaged.labels import Labels
from mmrec.encoders.packaged.minilm import SPACE, MiniLM
from mmrec.encoders.vectors import unit_rows
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["LabelBridge"]

_TEXTS = 32  # a batch


@dataclass(frozen=True, eq=False)
class LabelBridge:
    """Convex combination of semantic embeddings (ConSE) over all classes.

    All classes and not only the likeliest ones: it finds as much, and no vector jumps where two classes tie for the
    last place. Source: Norouzi et al. 2014, arXiv 1312.5650, with all classes for its top T.

    Attributes:
        labels: The classes.
        power: Exponent of the probabilities before they are made to sum to one; below one it listens to more classes.

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
        heard = log_probabilities.to(torch.float32)[:, kept.to(log_probabilities.device)]
        # exp(power * log p), made to sum to one, in the one form that cannot underflow.
        weights = torch.softmax(self.power * heard, dim=1)
        return unit_rows(weights @ vectors.to(weights.device))

    @property
    def _digest(self) -> str:
        return fingerprint(labels=self.labels.fingerprint, text=SPACE.fingerprint, version=1)

    @cached_property
    def _label_vectors(self) -> tuple[Tensor, Tensor]:
        """Numbers of the classes that have texts, and their unit vectors."""
        texts = self.labels.read()
        kept = [number for number, said in enumerate(texts) if said]
        vectors = load_vectors(self._digest)
        if vectors is None:
            vectors = _encode([texts[number] for number in kept])
            save_vectors(self._digest, vectors)
        return torch.tensor(kept), torch.from_numpy(vectors)


def _encode(classes: list[tuple[str, ...]]) -> Float32[np.ndarray, "classes dim"]:
    """Return the mean direction of each class's texts; on the CPU in float32, so that no device changes the space."""
    encoder = MiniLM()
    samples = [encoder.prepare(Modality.TEXT, text) for said in classes for text in said]
    owner = np.repeat(np.arange(len(classes)), [len(said) for said in classes])
    order = sorted(range(len(samples)), key=lambda index: samples[index].cost)
    sums = np.zeros((len(classes), SPACE.dim), dtype=np.float32)
    for start in range(0, len(order), _TEXTS):
        batch = order[start : start + _TEXTS]
        vectors = encoder.encode(Modality.TEXT, [samples[index] for index in batch])[SPACE.name]
        np.add.at(sums, owner[batch], vectors)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)
