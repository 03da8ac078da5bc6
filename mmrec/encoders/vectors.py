"""Vectors of encoders: unit length, tensors in safetensors files, and the base class of trainable encoders."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmrec.encoders.protocol import Sample, Vectors
from mmrec.errors import EncoderError
from mmrec.files import write_atomically
from mmrec.types import Modality

CPU = torch.device("cpu")


def unit_rows(rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """Return the rows at length one, in float32 whatever the network's number format."""
    return normalize(rows.to(torch.float32), dim=1)


def arrays(tensors: Mapping[str, Float[Tensor, "n dim"]]) -> Vectors:
    """Return the vectors of each space as numpy arrays on the host."""
    return {space: rows.cpu().numpy() for space, rows in tensors.items()}


def window_means(
    clips: Sequence[Shaped[Tensor, "_ ..."]], most: int, forward: Callable[[Tensor], Tensor]
) -> Float[Tensor, "n dim"]:
    """Return the mean vector of each clip's windows, encoded `most` at a time: one long clip can be many batches."""
    made = torch.cat([forward(windows) for windows in torch.split(torch.cat(list(clips)), most)])
    return torch.stack([part.mean(dim=0) for part in torch.split(made, [len(clip) for clip in clips])])


def forward_alike(
    samples: Sequence[Sample], kind_of: Callable[[Sample], Hashable], forward: Callable[[list[Sample]], Tensor]
) -> Float[Tensor, "n dim"]:
    """Return one row per sample; only samples of the same kind go through `forward` together."""
    numbers: dict[Hashable, list[int]] = {}
    for number, sample in enumerate(samples):
        numbers.setdefault(kind_of(sample), []).append(number)
    rows: dict[int, Tensor] = {}
    for group in numbers.values():
        rows.update(zip(group, forward([samples[number] for number in group]).unbind(), strict=True))
    return torch.stack([rows[number] for number in range(len(samples))])


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainableEncoder(ABC):
    """An encoder whose vectors can be computed with gradients; `encode` is `embed` without them."""

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    _batch_costs: ClassVar[tuple[int, int]] = (2_048, 65_536)  # on a CPU, on a GPU

    @property
    def batch_cost(self) -> int:
        """The batch size, in units of `Sample.cost`, that is fastest on the encoder's device."""
        return self._batch_costs[self.device.type != "cpu"]

    @abstractmethod
    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of one modality into unit vectors of all its spaces."""
        return self.submit(modality, samples)()

    def submit(self, modality: Modality, samples: Sequence[Sample]) -> Callable[[], Vectors]:
        """Start to encode a batch; the result waits for its vectors. On a CPU it is done at once."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            made = self.embed(modality, samples)
            if self.device.type != "cuda":
                vectors = arrays(made)
                return lambda: vectors
            return _fetched(made)

    def to_device(self, batch: Tensor) -> Tensor:
        """Return a batch where the network runs; the copy to a GPU goes on while the host works."""
        if self.device.type != "cuda":
            return batch.to(self.device)
        return batch.pin_memory().to(self.device, non_blocking=True)


def _fetched(made: Mapping[str, Float[Tensor, "n dim"]]) -> Callable[[], Vectors]:
    """Copy vectors from a GPU to the host as soon as they are done. The result waits for that."""
    hosts = {space: rows.to("cpu", non_blocking=True) for space, rows in made.items()}  # into pinned memory
    copied: Any = torch.cuda.Event  # which has no types
    copied = copied()
    copied.record()

    def fetch() -> Vectors:
        copied.synchronize()
        return {space: rows.numpy() for space, rows in hosts.items()}

    return fetch


def changed_tensors(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of `after` that are not, number for number, those of `before`. Raises EncoderError for new names."""
    if new := sorted(after.keys() - before.keys()):
        raise EncoderError(f"The trained network has the tensor {new[0]!r}, which its parent lacks.")
    return {
        name: value.detach().cpu().contiguous()
        for name, value in after.items()
        if not torch.equal(value.detach().cpu(), before[name].detach().cpu())
    }


def save_changed(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by their names, whole or not at all; the same tensors make the same bytes."""
    # Copies: two names of one tensor are written as two.
    write_atomically(path, save({name: value.clone() for name, value in tensors.items()}))


def load_changed(network: nn.Module, path: Path) -> None:
    """Overwrite a network's tensors with the fine-tuned ones of a file.

    Raises EncoderError if the file is missing or damaged, or has tensors that the network lacks.
    """
    try:
        tensors = load_file(path)
        unknown = network.load_state_dict(tensors, strict=False).unexpected_keys
    except (OSError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())[:300]
        raise EncoderError(f"The weights in {path} cannot be used: {why}. Copy them again, or train anew.") from error
    if unknown:
        raise EncoderError(f"{path} holds {unknown[0]!r}, which the parent's network lacks. Train anew.")
