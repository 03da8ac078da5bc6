"""How the generations of a store were made, as far as any of them still tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmrec.errors import StoreError
from mmrec.fusion.files import load_fusion
from mmrec.fusion.fusion import Fusion
from mmrec.generation.generation import FUSION
from mmrec.generation.recipe import Recipe, recipe_like, spaces_of
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.files import file_sha256
from mmrec.store.generations import Manifest, current, manifest
from mmrec.store.layout import Layout
from mmrec.verification.findings import reading

if TYPE_CHECKING:
    import mmrec.users.tower_model

__all__ = ["Told", "recipe_of"]

PACKAGED = "packaged"


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What is still known of how a store's generations were made.

    Attributes:
        recipe: How to make another.
        fusion: Theirs; None where none can be read.
        tower: What was trained on the vectors of that fusion, if anything was and can be read.

    """

    recipe: Recipe
    fusion: Fusion | None = None
    tower: "mmrec.users.tower_model.TowerModel | None" = None


def recipe_of(layout: Layout, spaces: Callable[[str], Mapping[Modality, tuple[Space, ...]]]) -> Told:
    """Read the recipe, the fusion and the tower of the current generation, or of the newest that can be read.

    Without any, `spaces` is asked for the spaces of the encoders that a manifest names, or of the packaged ones.
    """
    told: list[Manifest] = []
    for number in _newest_first(layout):
        try:
            with reading(layout.generations):
                made = manifest(layout, number)
                told.append(made)
                folder = layout.generations / str(number)
                if file_sha256(folder / FUSION) == made.sha256.get(FUSION):
                    fusion = load_fusion(folder / FUSION)
                    return Told(recipe_like(made, spaces_of(fusion)), fusion, _tower(folder, made))
        except StoreError:
            continue
    encoders = told[0].encoders if told else PACKAGED
    return Told(recipe_like(told[0], spaces(encoders)) if told else Recipe(spaces(encoders), {}, encoders))


def _tower(folder: Path, made: Manifest) -> "mmrec.users.tower_model.TowerModel | None":
    """The tower of a generation, if it has one that is whole."""
    if not made.has_tower:
        return None
    from mmrec.users.tower_files import load_tower  # noqa: PLC0415 - a store without a tower needs no torch

    try:
        return load_tower(folder)
    except StoreError:
        return None


def _newest_first(layout: Layout) -> list[int]:
    folders = layout.generations.iterdir() if layout.generations.is_dir() else ()
    taken = sorted((int(folder.name) for folder in folders if folder.name.isdigit()), reverse=True)
    try:
        now = current(layout)
    except (StoreError, OSError):
        return taken
    return sorted(taken, key=lambda number: number != now)
