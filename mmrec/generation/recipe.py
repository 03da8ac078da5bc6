"""How a generation is made, as a person asked for it or as the one before was."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from indexers.types import IndexSpec
from mmrec.fusion.fusion import Fusion
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.generations import Manifest

__all__ = ["Recipe", "same_recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a generation is made.

    Attributes:
        spaces: The spaces of each modality.
        weights: Weight of each modality; those not named weigh 1.
        encoders: Where the encoders came from, for the manifest.
        dim: Most dimensions of an item vector.
        index: Index recipe; chosen by size and memory where None.
        index_memory: The most bytes that a chosen index may take; None for no limit.
        seed: Of the sample that the fusion is fitted on and of the checks.

    """

    spaces: Mapping[Modality, tuple[Space, ...]]
    weights: Mapping[Modality, float] = field(default_factory=dict)
    encoders: str = "packaged"
    dim: int = 512
    index: IndexSpec | None = None
    index_memory: int | None = None
    seed: int = 0


def same_recipe(made: Manifest, fusion: Fusion) -> Recipe:
    """Return how a generation was made, so that another one like it can be."""
    spaces = {
        modality: tuple(block.space for block in fusion.blocks if block.modality == modality) for modality in Modality
    }
    weights = {Modality(name): weight for name, weight in made.weights.items()}
    search = {} if made.index_tuned else made.index_search
    index = IndexSpec(made.index_factory, "ip", search) if made.index_given else None
    return Recipe(spaces, weights, made.encoders, made.dim, index, made.index_memory)
