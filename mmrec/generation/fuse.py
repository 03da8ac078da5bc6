"""The recipe of a generation (weights, dimensions, index), and fitting a fusion and fusing all items by it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from indexers.protocol import IndexersError, IndexSpec
from indexers.recipes import check_spec
from mmrec.errors import UsageError
from mmrec.fusion.blocks import Block, centre
from mmrec.fusion.fusion import Fusion, fit
from mmrec.generation.agreement import Sampled, measure_agreements
from mmrec.storage.generations import Manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import StoredField
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality, Space, modality_bits
from mmrec.unit import unit


def chosen_before(made: Manifest | None) -> tuple[IndexSpec | None, int | None]:
    """Return the index recipe, and the most bytes of memory, that the user chose for a generation, if any."""
    if made is None:
        return None, None
    search = {} if made.index_tuned else made.index_search
    return IndexSpec(made.index_factory, "ip", search) if made.index_given else None, made.index_memory


def check_choice(spec: IndexSpec | None, spaces: Mapping[Modality, Iterable[Space]], dim: int) -> None:
    """Raise UsageError where a recipe suits no item vector that these spaces can give, whatever contents items have.

    None, the recipe that is chosen by size, always suits. `dim` is the most dimensions of an item vector.
    """
    if spec is None:
        return
    refusals: list[IndexersError] = []
    for possible in _dimensions(spaces, dim):
        try:
            check_spec(spec, possible)
        except IndexersError as error:
            refusals.append(error)
        else:
            return
    if refusals:
        raise UsageError(f"{refusals[0]} Nothing was read yet") from refusals[0]


def _dimensions(spaces: Mapping[Modality, Iterable[Space]], dim: int) -> list[int]:
    """Possible lengths of an item vector, by which modalities the items turn out to have; the longest first."""
    wide = [whole for some in spaces.values() if (whole := sum(space.dim for space in some))]
    found = chain.from_iterable(combinations(wide, count) for count in range(1, len(wide) + 1))
    return sorted({min(dim, sum(some)) for some in found}, reverse=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a generation is made.

    Attributes:
        spaces: The spaces of each modality.
        weights: Weight of each modality; those not named weigh 1.
        weights_given: Whether the user chose the weights; else each is scaled by the modality's agreement with texts.
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


@dataclass(frozen=True, slots=True, eq=False)
class FusedBatch:
    """Item vectors, and which modalities each item has a vector of, as bits (`modality_bits`)."""

    vectors: Float32[np.ndarray, "n dim"]
    modalities: UInt8[np.ndarray, " n"]


def open_tables(layout: Layout, blocks: Sequence[Block]) -> dict[Block, VectorTable]:
    """Open the vector table of each block at its latest version."""
    return {block: VectorTable(layout.vectors(block.space), block.space) for block in blocks}


def block_contents(block: Block, items: Sequence[tuple[StoredField, ...]]) -> tuple[list[int], list[bytes]]:
    """Return the positions of items in the batch and the hashes of their contents in a block, one pair per content."""
    pairs = [
        (place, field.hash)
        for place, fields in enumerate(items)
        for field in fields
        if field.modality == block.modality and field.hash is not None
    ]
    return [place for place, _ in pairs], [content for _, content in pairs]


def fuse_batch(
    fusion: Fusion, tables: Mapping[Block, VectorTable], items: Sequence[tuple[StoredField, ...]]
) -> FusedBatch:
    """Fuse a batch of items; contents without a vector count as absent."""
    present = np.zeros((len(items), len(fusion.blocks)), dtype=bool)
    centred = []
    for index, block in enumerate(fusion.blocks):
        sums = np.zeros((len(items), block.space.dim), dtype=np.float32)
        places, hashes = block_contents(block, items)
        if hashes:
            found, vectors = tables[block].fetch(hashes)
            owners = np.array(places)[found]
            np.add.at(sums, owners, centre(vectors[found], fusion.means[index]))
            present[owners, index] = True
        centred.append(unit(sums))
    bits = np.array([modality_bits(frozenset({block.modality})) for block in fusion.blocks], dtype=np.uint8)
    modalities = np.bitwise_or.reduce(np.where(present, bits, 0), axis=1, dtype=np.uint8)
    return FusedBatch(fusion.fuse(centred, present), modalities)


FIT_SAMPLE = 20_000


def fit_fusion(
    items: ItemTable, tables: Mapping[Block, VectorTable], weights: Float32[np.ndarray, " blocks"], recipe: Recipe
) -> Fusion:
    """Fit on the contents of about `FIT_SAMPLE` items, drawn by their ids, in the order of content hashes.

    Where the user did not choose the weights, each modality's agreement with the texts is measured on these items.

    Args:
        items: The catalog.
        tables: The vectors of each block, in the order of the blocks.
        weights: Weight of each block.
        recipe: Its `dim` is the most dimensions of an item vector, and another `seed` draws another sample.

    """
    sampled = _sampled(items, tables, recipe.seed)
    vectors = [one.vectors[np.argsort(np.array(one.hashes, dtype="S16"), kind="stable")] for one in sampled.values()]
    measure = None if recipe.weights_given else partial(measure_agreements, sampled=sampled)
    return fit(tuple(tables), weights, vectors, recipe.dim, measure)


def _sampled(items: ItemTable, tables: Mapping[Block, VectorTable], seed: int) -> dict[Block, Sampled]:
    """The contents of a sample of items, by block."""
    share = min(1.0, FIT_SAMPLE / max(len(items), 1))
    owners: dict[Block, list[np.ndarray]] = {block: [np.empty(0, dtype=np.int64)] for block in tables}
    hashes: dict[Block, list[bytes]] = {block: [] for block in tables}
    vectors: dict[Block, list[np.ndarray]] = {
        block: [np.empty((0, block.space.dim), dtype=np.float32)] for block in tables
    }
    count = 0
    for drawn in items.fields_of_ids(lambda ids: _is_drawn(ids, share, seed)):
        for block, table in tables.items():
            places, contents = block_contents(block, drawn)
            found, read = table.fetch(contents)
            hashes[block] += [content for content, there in zip(contents, found.tolist(), strict=True) if there]
            vectors[block].append(read[found])
            owners[block].append(count + np.array(places, dtype=np.int64)[found])
        count += len(drawn)
    return {
        block: Sampled(np.concatenate(owners[block]), tuple(hashes[block]), np.concatenate(vectors[block]))
        for block in tables
    }


def _is_drawn(ids: list[str], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Hash-based sampling: whether an id belongs to the sample depends on that id alone."""
    if share >= 1:
        return np.ones(len(ids), dtype=bool)
    salt = seed.to_bytes(8, "little", signed=True)
    digests = (hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8, key=salt).digest() for name in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8") < share * 2.0**64
