"""How a generation is made: weights, dimensions, index recipe and memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, combinations

from indexers.recipes import check_spec
from indexers.types import IndexersError, IndexSpec
from mmrec.errors import UsageError
from mmrec.fusion.fusion import Fusion
from mmrec.storage.generations import Manifest
from mmrec.types import Modality, Space

__all__ = ["Recipe", "check_choice", "chosen_before", "recipe_like", "spaces_of"]


def chosen_before(made: Manifest | None) -> tuple[IndexSpec | None, int | None]:
    """Return the recipe, and the most bytes of memory, that a person chose for a generation; None where nobody did."""
    if made is None:
        return None, None
    search = {} if made.index_tuned else made.index_search
    return IndexSpec(made.index_factory, "ip", search) if made.index_given else None, made.index_memory


def check_choice(spec: IndexSpec | None, spaces: Mapping[Modality, Iterable[Space]], dim: int) -> None:
    """Raise UsageError where a recipe suits no item vector that these spaces can give, whatever contents items have.

    Args:
        spec: The recipe; None, as what is chosen by size, always suits.
        spaces: The spaces of each modality that counts.
        dim: Most dimensions of an item vector.

    """
    if spec is None:
        return
    refusals = [_refusal(spec, possible) for possible in _dimensions(spaces, dim)]
    if refusals and all(refusals):
        raise UsageError(f"{refusals[0]} Nothing was read yet") from refusals[0]


def _refusal(spec: IndexSpec, dim: int) -> IndexersError | None:
    try:
        check_spec(spec, dim)
    except IndexersError as error:
        return error
    return None


def _dimensions(spaces: Mapping[Modality, Iterable[Space]], dim: int) -> list[int]:
    """What length an item vector may have, by which modalities the items turn out to have; the longest first."""
    wide = [whole for some in spaces.values() if (whole := sum(space.dim for space in some))]
    found = chain.from_iterable(combinations(wide, count) for count in range(1, len(wide) + 1))
    return sorted({min(dim, sum(some)) for some in found}, reverse=True)


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
