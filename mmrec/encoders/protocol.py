"""The encoder protocol: contents of a modality in, unit vectors of named spaces out."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Content, Modality, Space

if TYPE_CHECKING:
    import torch


Vectors: TypeAlias = dict[str, Float32[np.ndarray, "n dim"]]
"""Name of a space -> unit vectors, one row a sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One content, preprocessed and ready for a batch.

    Attributes:
        tensor: Model input without the batch dimension, on the CPU.
        cost: Work it makes, in the encoder's own unit (tokens, images, patches); batches are filled by it.
        truncated: Whether content beyond the model's limit was cut off.

    """

    tensor: "torch.Tensor"
    cost: int
    truncated: bool = False


@runtime_checkable
class Encoder(Protocol):
    """Contents of the modalities it supports -> unit vectors in its spaces.

    `prepare` runs in decoding threads and must be thread-safe; `encode` is called from one thread at a time.
    A vector depends on its own content alone: batch mates, order and padding change it by at most 1e-5 in float32.
    """

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The spaces each supported modality is encoded into; one forward pass fills them all."""
        ...

    @property
    def batch_cost(self) -> int:
        """The batch size, in units of `Sample.cost`, that is fastest on the encoder's device."""
        ...

    @property
    def module(self) -> "torch.nn.Module":
        """The network, for training."""
        ...

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content. Raises MediaError if it cannot be encoded (silence, no text)."""
        ...

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch. Returns one float32 unit vector per sample for each space of the modality."""
        ...


@runtime_checkable
class AsynchronousEncoder(Protocol):
    """An encoder whose device works on while the host does something else, as GPUs do; `submit` is `encode` in two."""

    def submit(self, modality: Modality, samples: Sequence[Sample]) -> Callable[[], Vectors]:
        """Start to encode a batch; the result waits for its vectors. Several may be under way, in their order."""
        ...


@runtime_checkable
class BatchPreparing(Protocol):
    """An encoder that preprocesses many contents in one call, as tokenizers do with threads of their own."""

    def prepare_many(self, modality: Modality, contents: Sequence[Content]) -> list[Sample]:
        """Preprocess contents as `prepare` does each. Raises MediaError if any of them cannot be encoded."""
        ...


def prepare_batch(encoder: Encoder, modality: Modality, contents: Sequence[Content]) -> list[Sample | Exception]:
    """Preprocess contents; what `prepare` raises for one stands in its place."""
    if isinstance(encoder, BatchPreparing) and len(contents) > 1:
        try:
            return list(encoder.prepare_many(modality, contents))
        except MediaError:
            pass  # of one of them, which must not cost the others
    return [_prepared(encoder, modality, content) for content in contents]


def _prepared(encoder: Encoder, modality: Modality, content: Content) -> Sample | Exception:
    try:
        return encoder.prepare(modality, content)
    except Exception as error:  # noqa: BLE001 -- the caller decides what it means
        return error


def fingerprint(**parts: object) -> str:
    """Return the hex SHA-256 over named parts: numbers, strings, and sequences and mappings of them, in any order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def limits_for(encoders: Iterable[Encoder], limits: Limits) -> Limits:
    """Return the limits with the size of images that these encoders want; those that do not say take the default."""
    wanted = [getattr(one, "image_side", limits.image_side) for one in encoders if Modality.IMAGE in one.spaces]
    return replace(limits, image_side=max(wanted, default=limits.image_side))
