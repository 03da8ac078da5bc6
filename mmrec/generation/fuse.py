"""Stored content vectors -> item vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from mmrec.fusion.blocks import Block
from mmrec.fusion.fusion import Fusion
from mmrec.store.layout import Layout
from mmrec.store.stored_item import StoredField
from mmrec.store.vectors import VectorTable
from mmrec.unit import unit

__all__ = ["FusedBatch", "block_contents", "fuse_batch", "open_tables"]


@dataclass(frozen=True, slots=True, eq=False)
class FusedBatch:
    """Item vectors, and which blocks each item has something in."""

    vectors: Float32[np.ndarray, "n dim"]
    present: Bool[np.ndarray, "n blocks"]


def open_tables(layout: Layout, blocks: Sequence[Block]) -> dict[Block, VectorTable]:
    """Open the vector table of each block at its latest version."""
    return {block: VectorTable(layout.vectors(block.space), block.space) for block in blocks}


def block_contents(block: Block, items: Sequence[tuple[StoredField, ...]]) -> tuple[list[int], list[bytes]]:
    """Which item (by place in the batch) has which content in a block; an item may have several."""
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
            np.add.at(sums, owners, fusion.centred(index, vectors[found]))
            present[owners, index] = True
        centred.append(unit(sums))
    return FusedBatch(fusion.fuse(centred, present), present)
