"""What an encoder may have beside the protocol, where vectors of one space follow from those of others.

One optional member, ``derivations``: a tuple of `Derivation`. Where the vectors of the inputs are stored, those of the
space are computed from them, and the content is neither read nor sent through the network again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from mmrec.encoders.protocol import Encoder
from mmrec.types import Modality, Space

__all__ = ["Derivation", "derivations_of"]

Rows: TypeAlias = Mapping[str, Float32[np.ndarray, "n _"]]


@dataclass(frozen=True, slots=True)
class Derivation:
    """How vectors of one space are computed from those of others.

    Attributes:
        modality: Of the contents.
        space: Where the vectors lie.
        inputs: The spaces they are computed from, by the names under which `compute` takes them.
        compute: Vectors of the inputs, row by row of one content -> unit vectors of the space.

    """

    modality: Modality
    space: Space
    inputs: Mapping[str, Space]
    compute: Callable[[Rows], Float32[np.ndarray, "n dim"]]


def derivations_of(encoder: Encoder) -> tuple[Derivation, ...]:
    """Return what can be computed from stored vectors; nothing for most encoders."""
    found: tuple[Derivation, ...] = getattr(encoder, "derivations", ())
    return found
