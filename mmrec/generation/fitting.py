"""Fitting a fusion so that the same catalog gives the same one, whatever way it came into the store."""

import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float32

from mmrec.fusion.blocks import Block
from mmrec.fusion.fusion import Fusion, fit
from mmrec.generation.fuse import block_contents
from mmrec.store.items import ItemTable
from mmrec.store.vectors import VectorTable

__all__ = ["fit_fusion"]

FIT_SAMPLE = 20_000


def fit_fusion(
    items: ItemTable, tables: Mapping[Block, VectorTable], weights: Float32[np.ndarray, "blocks"], dim: int, seed: int
) -> Fusion:
    """Fit on the contents of about `FIT_SAMPLE` items, drawn by their ids and taken in the order of content hashes.

    Args:
        items: The catalog.
        tables: The vectors of each block, in the order of the blocks.
        weights: Weight of each block.
        dim: Most dimensions of an item vector.
        seed: Draws another sample.

    """
    share = min(1.0, FIT_SAMPLE / max(len(items), 1))
    hashes: dict[Block, list[bytes]] = {block: [] for block in tables}
    vectors: dict[Block, list[np.ndarray]] = {
        block: [np.empty((0, block.space.dim), dtype=np.float32)] for block in tables
    }
    for drawn in items.fields_of_ids(lambda ids: _drawn(ids, share, seed)):
        for block, table in tables.items():
            contents = block_contents(block, drawn)[1]
            found, read = table.fetch(contents)
            hashes[block] += [content for content, there in zip(contents, found.tolist(), strict=True) if there]
            vectors[block].append(read[found])
    samples = [np.concatenate(vectors[block])[_order(hashes[block])] for block in tables]
    return fit(tuple(tables), weights, samples, dim)


def _drawn(ids: list[str], share: float, seed: int) -> Bool[np.ndarray, "n"]:
    """Which ids belong to a sample: each decides for itself, so others that come and go do not matter."""
    if share >= 1:
        return np.ones(len(ids), dtype=bool)
    salt = seed.to_bytes(8, "little", signed=True)
    digests = (hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8, key=salt).digest() for name in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8") < share * 2.0**64


def _order(hashes: list[bytes]) -> np.ndarray:
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)
