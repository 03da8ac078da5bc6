"""Configuration of fine-tuned encoders, and which of their vectors derive from stored ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mmrec.encoders.factories import EncoderSpec, with_absolute_paths
from mmrec.encoders.protocol import Encoder
from mmrec.errors import EncoderError
from mmrec.files import write_atomically
from mmrec.types import Modality, Space

_FILE: Final = "config.json"
_NAME: Final = r"[a-z0-9]+(-[a-z0-9]+)*"
_INSIDE: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # a file of the folder itself


class ParentConfig(BaseModel):
    """The encoder that was fine-tuned.

    Attributes:
        factory: Dotted path of what makes it.
        settings: Its keywords beside `device` and `dtype`; texts that begin with ``./`` are paths from the folder.
        fingerprints: Its spaces' fingerprints by name: no other parent is accepted.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: str = Field(pattern=r"^[\w.]+\.\w+$")
    settings: dict[str, str | int | float | bool | list[str] | None] = {}
    fingerprints: dict[str, str]


class TunedHead(BaseModel):
    """One head on the parent's vectors.

    Attributes:
        modality: Of the contents it places.
        space: Name of the space it fills.
        file: Its file in the folder.
        approximates: Fingerprint of the space its vectors are comparable with, if another.
        replaces: Names of the parent's spaces that items are no longer encoded into.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Modality
    space: str = Field(pattern=f"^{_NAME}$")
    file: str = Field(pattern=f"^{_INSIDE}$")
    approximates: str | None = None
    replaces: tuple[str, ...] = ()


class TunedConfig(BaseModel):
    """A fine-tuned encoder, its numbers apart.

    Attributes:
        version: Of this file.
        parent: The encoder that was fine-tuned.
        weights: File of the tensors that differ from the parent's; None if none does.
        suffix: What is put behind the names of the parent's spaces, where weights differ.
        heads: Heads on the parent's vectors; each adds one space.
        kept: Names of the parent's spaces that queries are encoded into as well, with the parent's original weights:
            spaces of other encoders approximate those.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    parent: ParentConfig
    weights: str | None = Field(default=None, pattern=f"^{_INSIDE}$")
    suffix: str = Field(default="tuned", pattern=f"^{_NAME}$")
    heads: tuple[TunedHead, ...] = ()
    kept: tuple[str, ...] = ()

    @field_validator("heads")
    @classmethod
    def _names_differ(cls, heads: tuple[TunedHead, ...]) -> tuple[TunedHead, ...]:
        if len({head.space for head in heads}) < len(heads):
            raise ValueError(f"two heads fill one space: {[head.space for head in heads]}; name them differently")
        return heads

    @property
    def parent_spec(self) -> EncoderSpec:
        """How the parent is built."""
        settings: Mapping[str, object] = self.parent.settings
        return EncoderSpec(self.parent.factory, settings)


def read_tuned_config(folder: Path) -> TunedConfig:
    """Read the description in a folder, its paths made absolute. Raises EncoderError if there is none."""
    path = folder / _FILE
    try:
        found = TunedConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EncoderError(
            f"{folder} holds no fine-tuned encoder: {path.name} cannot be read ({error.strerror})."
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise EncoderError(f"{path} describes no fine-tuned encoder that this mmrec knows: {faults}.") from error
    settings = with_absolute_paths(found.parent.settings, folder.resolve())
    return found.model_copy(update={"parent": found.parent.model_copy(update={"settings": settings})})


def write_tuned_config(config: TunedConfig, folder: Path) -> None:
    """Write the description of a folder."""
    write_atomically(folder / _FILE, json.dumps(config.model_dump(mode="json"), indent=2).encode() + b"\n")


Rows: TypeAlias = Mapping[str, Float32[np.ndarray, "n _"]]


@dataclass(frozen=True, slots=True)
class Derivation:
    """How vectors of one space are computed from those of others.

    `inputs` are the spaces they are computed from, by the names under which `compute` takes their vectors, row by row
    of one content; it returns unit vectors of `space`.
    """

    modality: Modality
    space: Space
    inputs: Mapping[str, Space]
    compute: Callable[[Rows], Float32[np.ndarray, "n dim"]]


def derivations_of(encoder: Encoder) -> tuple[Derivation, ...]:
    """Return what can be computed from stored vectors; nothing for most encoders."""
    found: tuple[Derivation, ...] = getattr(encoder, "derivations", ())
    return found
