"""A file of vectors into a store, and the generation that answers with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexers.types import IndexSpec
from mmrec.exchange.imports import ImportTally, VectorImport
from mmrec.exchange.spaces_of import Declaration, decide, known_blocks
from mmrec.exchange.vector_files import VectorColumns, open_vectors
from mmrec.fusion.blocks import Block
from mmrec.generation.build import build_generation, follows
from mmrec.generation.generation import open_generation
from mmrec.generation.index_choice import check_choice, chosen_before
from mmrec.generation.recipe import Recipe
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.declared import Declared, declare, declared
from mmrec.store.files import write_atomically
from mmrec.store.generations import Manifest, current, manifest
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.lock import commit_lock, job_lock

__all__ = ["NO_ENCODERS", "Import", "import_vectors"]

NO_ENCODERS = "none"
"""What stands for the encoders of a store of which all vectors were made elsewhere."""

UNFINISHED = "import.unfinished"
"""A file that is there while an import is under way: one that died may have left vectors that no item vector has."""


@dataclass(frozen=True, slots=True)
class Import:
    """How vectors are taken in.

    Attributes:
        columns: Which columns of the file are what.
        said: What the person says of the vectors.
        add_items: Make items of rows whose id the store does not have; always so where it has no item.
        dim: Most dimensions of an item vector.
        index: Index recipe; None keeps what a person chose for the store before, else it is chosen by size and memory.

    """

    columns: VectorColumns = field(default_factory=VectorColumns)
    said: Declaration = field(default_factory=Declaration)
    add_items: bool = False
    dim: int = 512
    index: IndexSpec | None = None


def import_vectors(layout: Layout, path: Path, how: Import) -> tuple[ImportTally, Declared, Manifest]:
    """Take in a file of vectors. Returns what was done, the space, and the generation that is now current.

    Raises UsageError where the file or a column cannot be used, SpaceMismatchError where the vectors are of another
    space than was said, StoreBusyError where a job is at work on the store, StoreError where it cannot be written.
    """
    file = open_vectors(path, how.columns)
    layout.create()
    with job_lock(layout.job_lock):
        space = decide(layout, how.said, file)
        _check_index(layout, how, space)
        unfinished = layout.root / UNFINISHED
        died = unfinished.exists()
        with commit_lock(layout.lock):
            write_atomically(unfinished, space.name.encode())
        add_items = how.add_items or not len(ItemTable(layout.items))
        tally = VectorImport(layout, space, add_items).run(file)
        blocks = known_blocks(layout)
        if not any(block.space.name == space.name and block.modality == space.modality for block in blocks):
            with commit_lock(layout.lock):
                declare(layout, space)
        made = _publish(layout, blocks, how, refit=died)
        unfinished.unlink()
    return tally, space, made


def _publish(layout: Layout, blocks: Sequence[Block], how: Import, *, refit: bool) -> Manifest:
    """Build the generation of what the store had before and has now; all anew after an import that was cut off."""
    number = current(layout)
    before = None if number is None else open_generation(layout, number)
    weights = {Modality(name): weight for name, weight in before.manifest.weights.items()} if before else {}
    encoders = before.manifest.encoders if before else NO_ENCODERS
    index, memory = _index_choice(how, before.manifest if before else None)
    given = before is not None and before.manifest.chose_weights
    recipe = Recipe(_spaces(layout, blocks), weights, encoders, how.dim, index, memory, weights_given=given)
    if before is not None and not refit and follows(layout, before, recipe, ItemTable(layout.items)):
        return before.manifest
    return build_generation(layout, recipe, before, refit=refit)


def _index_choice(how: Import, made: Manifest | None) -> tuple[IndexSpec | None, int | None]:
    return (how.index, None) if how.index is not None else chosen_before(made)


def _check_index(layout: Layout, how: Import, new: Declared) -> None:
    """Raise UsageError where the index recipe suits no item vector that there can be, before anything is taken in."""
    number = current(layout)
    index, _ = _index_choice(how, None if number is None else manifest(layout, number))
    spaces = {modality: dict.fromkeys(some) for modality, some in _spaces(layout, known_blocks(layout)).items()}
    spaces[new.modality][new.space] = None
    check_choice(index, spaces, how.dim)


def _spaces(layout: Layout, blocks: Sequence[Block]) -> dict[Modality, tuple[Space, ...]]:
    pairs = [(block.modality, block.space) for block in blocks]
    pairs += [(one.modality, one.space) for one in declared(layout)]
    return {
        modality: tuple(dict.fromkeys(space for other, space in pairs if other == modality)) for modality in Modality
    }
