"""How the generations of a store were made, as far as any of them still tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmrec.errors import StoreError, UnreadableError
from mmrec.fusion.files import load_fusion
from mmrec.fusion.fusion import Fusion
from mmrec.generation.generation import FUSION
from mmrec.generation.recipe import Recipe, recipe_like, spaces_of
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.checksums import check_files, sha256_of
from mmrec.store.damage import reading
from mmrec.store.generations import Manifest, current, manifest
from mmrec.store.layout import Layout

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
                if sha256_of(folder / FUSION, again=True) == made.sha256.get(FUSION):
                    fusion = load_fusion(folder / FUSION)
                    return Told(recipe_like(made, spaces_of(fusion)), fusion, _tower(layout, made.sha256[FUSION]))
        except StoreError:
            continue
    encoders = told[0].encoders if told else PACKAGED
    return Told(recipe_like(told[0], spaces(encoders)) if told else Recipe(spaces(encoders), {}, encoders))


def _tower(layout: Layout, fusion: str) -> "mmrec.users.tower_model.TowerModel | None":
    """The newest tower that is whole and has learned from the vectors of a fusion, given by its checksum."""
    from mmrec.users.tower_files import CONFIG, WEIGHTS, load_tower  # noqa: PLC0415 - most stores need no torch here

    for number in _newest_first(layout):
        folder = layout.generations / str(number)
        if not (folder / WEIGHTS).is_file():
            continue
        try:
            sums = _sums(layout, number)
            if sums.get(FUSION, sha256_of(folder / FUSION)) == fusion:
                check_files({folder / name: sums[name] for name in (CONFIG, WEIGHTS) if name in sums})
                return load_tower(folder)
        except StoreError:
            continue
    return None


def _sums(layout: Layout, number: int) -> Mapping[str, str]:
    """The checksums of a generation's files; none where its manifest is damaged."""
    try:
        return manifest(layout, number).sha256
    except UnreadableError:
        raise
    except StoreError:
        return {}


def _newest_first(layout: Layout) -> list[int]:
    folders = layout.generations.iterdir() if layout.generations.is_dir() else ()
    taken = sorted((int(folder.name) for folder in folders if folder.name.isdigit()), reverse=True)
    try:
        now = current(layout)
    except (StoreError, OSError):
        return taken
    return sorted(taken, key=lambda number: number != now)
