"""An encoder that was fine-tuned: its parent, the tensors that differ from the parent's, and heads on its vectors.

    [[encoders]]
    factory = "mmrec.encoders.tuned.Tuned"
    folder = "./efficientnet-lite0-aligned"

Spaces. A head fills one more space; where weights differ, every space of the parent is another one, with another name.
A space that was *replaced* is no longer filled for items. Queries are still encoded into *kept* ones, with the parent's
original weights: approximating spaces of other encoders (label bridges) can only be compared with the parent's texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmrec.encoders.factories import build_encoder
from mmrec.encoders.head import Head, HeadConfig, load_head, read_head_config
from mmrec.encoders.hub.loading import once
from mmrec.encoders.hub.source import file_digest
from mmrec.encoders.protocol import Encoder, Sample, fingerprint
from mmrec.encoders.queries import prepare_query, query_spaces
from mmrec.encoders.tuned_config import Derivation, TunedConfig, TunedHead, read_tuned_config
from mmrec.encoders.vectors import TrainableEncoder, arrays, load_changed
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Space


@dataclass(frozen=True, slots=True)
class _QuerySample(Sample):
    """A content of a query, which is encoded into the kept spaces too."""


class TunedNetwork(nn.Module):
    """The parent's network and the heads, by the names of their spaces."""

    def __init__(self, network: nn.Module, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ModuleDict(heads)


@dataclass(frozen=True, eq=False)
class Tuned(TrainableEncoder):
    """What `mmrec.finetuning.saving` wrote into a folder. Weights are read at first use.

    Attributes:
        folder: Where it lies.
        trust_code: Whether the parent may be code that is not this package's own. Never read from a file.

    """

    folder: str
    trust_code: bool = False

    @once
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """Spaces of items. Raises EncoderError if files are missing, or the parent is not the one it was made of."""
        return self._laid_out(self._own_parent.spaces, of_queries=False)

    @once
    def query_spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """Spaces of queries: those of items, those that queries of the parent have, and the kept ones."""
        return self._laid_out(query_spaces(self._own_parent), of_queries=True)

    @once
    def derivations(self) -> tuple[Derivation, ...]:
        """The heads, whose vectors follow from their inputs' where only contents of their modality have those."""
        spaces, heads = _by_name(self._own_parent), []
        for head in self._config.heads:
            inputs = {name: spaces[name] for name, _ in self._head_configs[head.space].inputs}
            others = [some for modality, some in self._own_parent.spaces.items() if modality is not head.modality]
            if not any(space in some for some in others for space in inputs.values()):
                changed = {name: self._changed(space) for name, space in inputs.items()}
                made = self._head_space(head)
                heads.append(Derivation(head.modality, made, changed, partial(self._derive, head.file)))
        return tuple(heads)

    @property
    def batch_cost(self) -> int:
        """The parent's."""
        return self._own_parent.batch_cost

    @property
    def image_side(self) -> int:
        """The parent's. Raises AttributeError if it does not say."""
        side: int = self._own_parent.image_side
        return side

    @once
    def module(self) -> TunedNetwork:
        """The network and the heads. Raises EncoderError if files are missing, damaged or of other sizes."""
        network = self._own_parent.module
        if self._config.weights is not None:
            load_changed(network, Path(self.folder) / self._config.weights)
        heads = {head.space: load_head(Path(self.folder) / head.file).to(self.device) for head in self._config.heads}
        return TunedNetwork(network, heads).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the parent does. Raises MediaError if it cannot be encoded."""
        return self._own_parent.prepare(modality, content)

    def prepare_query(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content of a query as the parent does. Raises MediaError if it cannot be encoded."""
        made = prepare_query(self._own_parent, modality, content)
        return _QuerySample(made.tensor, made.cost, made.truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        is_query = any(isinstance(sample, _QuerySample) for sample in samples)
        network = self.module
        plain = self._parent_vectors(self._own_parent, modality, samples)
        made = {self._renamed[name]: rows for name, rows in plain.items()}
        made |= {head.space: network.heads[head.space](plain) for head in self._heads(modality)}
        if is_query and self._config.weights is not None and self._kept_of(modality):
            made |= self._parent_vectors(self._plain_parent, modality, samples)
        wanted = (self.query_spaces if is_query else self.spaces)[modality]
        return {space.name: made[space.name] for space in wanted}

    def _derive(self, file: str, inputs: Mapping[str, Float32[np.ndarray, "n _"]]) -> Float32[np.ndarray, "n dim"]:
        head = load_head(Path(self.folder) / file).to(self.device)  # without the network, which is larger
        with torch.no_grad():
            rows = head({name: torch.from_numpy(part).to(self.device) for name, part in inputs.items()})
        return arrays({file: rows})[file]

    @once
    def _config(self) -> TunedConfig:
        return read_tuned_config(Path(self.folder))

    @once
    def _own_parent(self) -> Encoder:
        """The parent, into whose network the changed tensors go."""
        parent = self._build_parent()
        _check(parent, self._config, self.folder)
        return parent

    @once
    def _plain_parent(self) -> Encoder:
        return self._build_parent()

    def _build_parent(self) -> Encoder:
        return build_encoder(self._config.parent_spec, self.device, self.dtype, trust_code=self.trust_code)

    def _parent_vectors(
        self,
        parent: Any,  # noqa: ANN401 -- `embed` is beside the protocol
        modality: Modality,
        samples: Sequence[Sample],
    ) -> dict[str, Float[Tensor, "n _"]]:
        if hasattr(parent, "embed"):
            found: dict[str, Tensor] = parent.embed(modality, samples)
            return found
        return {name: torch.from_numpy(rows).to(self.device) for name, rows in parent.encode(modality, samples).items()}

    def _heads(self, modality: Modality) -> list[TunedHead]:
        return [head for head in self._config.heads if head.modality is modality]

    def _kept_of(self, modality: Modality) -> tuple[Space, ...]:
        able = query_spaces(self._own_parent).get(modality, ())
        return tuple(space for space in able if space.name in self._config.kept)

    def _laid_out(
        self, parents: Mapping[Modality, tuple[Space, ...]], *, of_queries: bool
    ) -> Mapping[Modality, tuple[Space, ...]]:
        found = {}
        for modality, spaces in parents.items():
            heads = self._heads(modality)
            replaced = {name for head in heads for name in head.replaces}
            own = [self._changed(space) for space in spaces if space.name not in replaced]
            kept = self._kept_of(modality) if of_queries else ()
            found[modality] = tuple(dict.fromkeys([*own, *(self._head_space(head) for head in heads), *kept]))
        return found

    @once
    def _renamed(self) -> Mapping[str, str]:
        return {name: self._changed(space).name for name, space in _by_name(self._own_parent).items()}

    @once
    def _weights_digest(self) -> str | None:
        return None if self._config.weights is None else self._digest(self._config.weights)

    def _changed(self, space: Space) -> Space:
        """The space as it is with the changed tensors."""
        if self._weights_digest is None:
            return space
        decided = fingerprint(parent=space.fingerprint, weights=self._weights_digest, version=1)
        return Space(f"{space.name}-{self._config.suffix}", space.dim, decided, space.approximates)

    def _head_space(self, head: TunedHead) -> Space:
        spaces = _by_name(self._own_parent)
        config = self._head_configs[head.space]
        read = {name: self._changed(spaces[name]).fingerprint for name, _ in config.inputs}
        decided = fingerprint(inputs=read, head=self._digest(head.file), version=1)
        return Space(head.space, config.dim, decided, head.approximates)

    @once
    def _head_configs(self) -> Mapping[str, HeadConfig]:
        found = {head.space: read_head_config(Path(self.folder) / head.file) for head in self._config.heads}
        there = {name: space.dim for name, space in _by_name(self._own_parent).items()}
        for space, config in found.items():
            if unknown := [name for name, dim in config.inputs if there.get(name) != dim]:
                raise EncoderError(
                    f"The head {space} in {self.folder} reads {dict(config.inputs)}, and its parent fills {there}: "
                    f"{unknown[0]} does not fit. Train anew."
                )
        return found

    def _digest(self, name: str) -> str:
        try:
            return file_digest(Path(self.folder) / name)
        except OSError as error:
            raise EncoderError(
                f"{Path(self.folder) / name} cannot be read ({error.strerror}). Copy the folder again."
            ) from error


def _by_name(encoder: Encoder) -> dict[str, Space]:
    filled = [encoder.spaces, query_spaces(encoder)]
    return {space.name: space for spaces in filled for some in spaces.values() for space in some}


def _check(parent: Encoder, config: TunedConfig, folder: str) -> None:
    found = {name: space.fingerprint for name, space in _by_name(parent).items()}
    for name, expected in config.parent.fingerprints.items():
        if found.get(name) != expected:
            has = f"has the fingerprint {found[name]}" if name in found else f"is not there (but {', '.join(found)})"
            raise EncoderError(
                f"{folder} was made of {config.parent.factory} whose space {name} has the fingerprint {expected}; of "
                f"the parent that is here it {has}. Bring the parent it was made of, or train anew."
            )
