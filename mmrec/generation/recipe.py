"""How a generation is made, as a person asked for it or as the one before was."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from indexers.types import IndexSpec
from mmrec.fusion.fusion import Fusion
from mmrec.generation.index_choice import chosen_before
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.generations import Manifest

__all__ = ["Recipe", "recipe_like", "spaces_of"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a generation is made.

    Attributes:
        spaces: The spaces of each modality.
        weights: Weight of each modality; those not named weigh 1.
        weights_given: Whether a person chose the weights; else each counts as far as the catalog agrees with it.
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
    weights_given: bool = False


def recipe_like(made: Manifest, spaces: Mapping[Modality, tuple[Space, ...]]) -> Recipe:
    """Return how a generation was made, so that another one like it can be, of these spaces."""
    weights = {Modality(name): weight for name, weight in made.weights.items() if name in set(Modality)}
    index, memory = chosen_before(made)
    given = made.chose_weights
    recipe = Recipe(spaces, weights, made.encoders, index=index, index_memory=memory, weights_given=given)
    # A generation may have fewer dimensions than were allowed, and another one then more.
    whole = sum(space.dim for some in spaces.values() for space in some)
    return replace(recipe, dim=made.dim) if made.dim < whole or made.dim > recipe.dim else recipe


def spaces_of(fusion: Fusion) -> dict[Modality, tuple[Space, ...]]:
    """Return the spaces of each modality that a fusion joins."""
    return {
        modality: tuple(block.space for block in fusion.blocks if block.modality == modality) for modality in Modality
    }
