"""How the generations of a store were made, as far as any of them still tells."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mmrec.errors import StoreError
from mmrec.fusion.files import load_fusion
from mmrec.fusion.fusion import Fusion
from mmrec.generation.build import Recipe
from mmrec.generation.generation import FUSION
from mmrec.generation.index_choice import chosen_before
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.files import file_sha256
from mmrec.store.generations import Manifest, current, manifest
from mmrec.store.layout import Layout
from mmrec.verification.findings import reading

__all__ = ["recipe_of"]

PACKAGED = "packaged"


def recipe_of(
    layout: Layout, spaces: Callable[[str], Mapping[Modality, tuple[Space, ...]]]
) -> tuple[Recipe, Fusion | None]:
    """Read the recipe and the fusion of the current generation, or of the newest that can be read.

    Without any, `spaces` is asked for the spaces of the encoders that a manifest names, or of the packaged ones.
    """
    told: list[Manifest] = []
    for number in _newest_first(layout):
        try:
            with reading(layout.generations):
                made = manifest(layout, number)
                told.append(made)
                path = layout.generations / str(number) / FUSION
                if file_sha256(path) == made.sha256.get(FUSION):
                    fusion = load_fusion(path)
                    return _recipe(made, _spaces_of(fusion)), fusion
        except StoreError:
            continue
    encoders = told[0].encoders if told else PACKAGED
    return _recipe(told[0], spaces(encoders)) if told else Recipe(spaces(encoders), {}, encoders), None


def _recipe(made: Manifest, spaces: Mapping[Modality, tuple[Space, ...]]) -> Recipe:
    weights = {Modality(name): weight for name, weight in made.weights.items() if name in set(Modality)}
    index, memory = chosen_before(made)
    recipe = Recipe(spaces, weights, made.encoders, index=index, index_memory=memory)
    whole = sum(space.dim for some in spaces.values() for space in some)
    return replace(recipe, dim=made.dim) if made.dim < whole or made.dim > recipe.dim else recipe


def _spaces_of(fusion: Fusion) -> dict[Modality, tuple[Space, ...]]:
    return {
        modality: tuple(block.space for block in fusion.blocks if block.modality == modality) for modality in Modality
    }


def _newest_first(layout: Layout) -> list[int]:
    folders = layout.generations.iterdir() if layout.generations.is_dir() else ()
    taken = sorted((int(folder.name) for folder in folders if folder.name.isdigit()), reverse=True)
    try:
        now = current(layout)
    except (StoreError, OSError):
        return taken
    return sorted(taken, key=lambda number: number != now)
