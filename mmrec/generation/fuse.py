"""The recipe of a generation (weights, dimensions, index), and fitting a fusion on a sample and fusing items by it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, combinations

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from indexers.protocol import IndexersError, IndexSpec
from indexers.recipes import check_spec
from mmrec.errors import UsageError
from mmrec.fusion.agreement import Agreement, advice, neighbour_agreement, text_retrieval_agreement
from mmrec.fusion.blocks import Block, centre
from mmrec.fusion.fusion import Fusion, fit
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
    """Raise UsageError if a recipe suits no item vector that these spaces can give, whatever contents items have.

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


MEASURED_ITEMS = 2_000
"""Items that are compared with each other, at most: their number squared, a few times."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Contents of a sample of items in one block: position of their item in the sample, hash and vector."""

    items: Int64[np.ndarray, " n"]
    hashes: tuple[bytes, ...]
    vectors: Float32[np.ndarray, "n dim"]


def measure_agreements(fusion: Fusion, sampled: Mapping[Block, Sampled]) -> tuple[Agreement, ...]:
    """For each modality except text: neighbour agreement, and text retrieval for each comparable block.

    Modalities with too few items, or without texts, are left out. The sample may come in any order.
    """
    return tuple(found for modality in Modality for found in _of_modality(modality, fusion, sampled))


def _of_modality(modality: Modality, fusion: Fusion, sampled: Mapping[Block, Sampled]) -> Iterator[Agreement]:
    texts = [block for block in fusion.blocks if block.modality is Modality.TEXT]
    own = [block for block in fusion.blocks if block.modality is modality]
    if modality is Modality.TEXT or not texts or not own:
        return
    chosen, groups = _items_with(sampled[texts[0]], sampled[own[0]])
    if not len(chosen):
        return
    media_vectors, text_vectors = (_joined(some, fusion, sampled, chosen) for some in (own, texts))
    found = [neighbour_agreement(modality, media_vectors, text_vectors, groups)]
    for block in own:
        key = block.space.comparison_key
        text_block = next((text for text in texts if text.space.comparison_key == key), None)
        if text_block is not None:
            index = fusion.blocks.index(block)
            queries = fusion.project(index, _centred(text_block, fusion, sampled[text_block], chosen), 1.0)
            items = fusion.project(index, _centred(block, fusion, sampled[block], chosen), 1.0)
            found.append(text_retrieval_agreement(block, queries, items, groups))
    yield from (one for one in found if one is not None)


def _items_with(texts: Sampled, others: Sampled) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Items that have both, `MEASURED_ITEMS` at most, sorted by content hash; and a number for each different text."""
    by_text, by_other = _contents(texts), _contents(others)
    both = sorted((by_text[item], by_other[item], item) for item in by_text.keys() & by_other.keys())[:MEASURED_ITEMS]
    _, groups = np.unique(np.array([text.hex() for text, _, _ in both], dtype=str), return_inverse=True)
    return np.array([item for _, _, item in both], dtype=np.int64), groups.astype(np.int64)


def _contents(sampled: Sampled) -> dict[int, bytes]:
    """All contents of each item, as one key."""
    keys: dict[int, list[bytes]] = {}
    for item, content in zip(sampled.items.tolist(), sampled.hashes, strict=True):
        keys.setdefault(item, []).append(content)
    return {item: b"".join(sorted(some)) for item, some in keys.items()}


def _joined(
    blocks: list[Block], fusion: Fusion, sampled: Mapping[Block, Sampled], chosen: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n dim"]:
    """Item vectors in some blocks side by side."""
    parts = [
        fusion.project(fusion.blocks.index(block), _centred(block, fusion, sampled[block], chosen)) for block in blocks
    ]
    return np.concatenate(parts, axis=1)


def _centred(
    block: Block, fusion: Fusion, sampled: Sampled, chosen: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n dim"]:
    """Mean of each item's centred vectors, made a unit vector; zero where it has none in this block."""
    order = np.argsort(chosen)
    places = np.searchsorted(chosen, sampled.items, sorter=order)
    places = order[np.minimum(places, len(chosen) - 1)]
    there = chosen[places] == sampled.items
    sums = np.zeros((len(chosen), block.space.dim), dtype=np.float32)
    np.add.at(sums, places[there], centre(sampled.vectors[there], fusion.means[fusion.blocks.index(block)]))
    return unit(sums)


FIT_SAMPLE = 20_000


def fit_fusion(
    items: ItemTable, tables: Mapping[Block, VectorTable], weights: Float32[np.ndarray, " blocks"], recipe: Recipe
) -> Fusion:
    """Fit on the contents of about `FIT_SAMPLE` items, drawn by their ids, in the order of content hashes.

    `weights` are in the order of the blocks of `tables`. Unless the user chose them, each modality's agreement with the
    texts is measured on these items. Another seed of the recipe draws another sample.
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


def advice_of(made: Manifest) -> list[str]:
    """Return warnings about modalities of a generation that agree little with its texts, and what to do."""
    return advice(
        [
            Agreement(subject, int(one["items"]), one["rate"], one["low"], one["high"], one["confidence"])
            for subject, one in made.agreement.items()
        ]
    )
