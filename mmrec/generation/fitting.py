"""Fitting a fusion so that the same catalog gives the same one, whatever way it came into the store."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float32

from mmrec.fusion.blocks import Block
from mmrec.fusion.fusion import Fusion, fit
from mmrec.generation.agreement import Sampled, measure_agreements
from mmrec.generation.fuse import block_contents
from mmrec.generation.recipe import Recipe
from mmrec.store.items import ItemTable
from mmrec.store.vectors import VectorTable

__all__ = ["fit_fusion"]

FIT_SAMPLE = 20_000


def fit_fusion(
    items: ItemTable, tables: Mapping[Block, VectorTable], weights: Float32[np.ndarray, " blocks"], recipe: Recipe
) -> Fusion:
    """Fit on the contents of about `FIT_SAMPLE` items, drawn by their ids and taken in the order of content hashes.

    Where no person chose the weights, it is measured on the same items how far each modality agrees with the texts.

    Args:
        items: The catalog.
        tables: The vectors of each block, in the order of the blocks.
        weights: Weight of each block.
        recipe: Its `dim` is the most dimensions of an item vector, and another `seed` draws another sample.

    """
    sampled = _sampled(items, tables, recipe.seed)
    vectors = [sampled[block].vectors[_order(sampled[block].hashes)] for block in tables]
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
    for drawn in items.fields_of_ids(lambda ids: _drawn(ids, share, seed)):
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


def _drawn(ids: list[str], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which ids belong to a sample: each decides for itself, so others that come and go do not matter."""
    if share >= 1:
        return np.ones(len(ids), dtype=bool)
    salt = seed.to_bytes(8, "little", signed=True)
    digests = (hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8, key=salt).digest() for name in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8") < share * 2.0**64


def _order(hashes: Sequence[bytes]) -> np.ndarray:
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)
