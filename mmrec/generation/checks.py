"""Checks of a generation, made before it is published and again by `mmrec verify`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float16, Int64

from indexers.protocol import Index
from indexers.recall import TARGET, Recall, RecallSample
from indexers.vectors import contains
from mmrec.fusion.blocks import Block
from mmrec.generation.fuse import fuse_batch
from mmrec.generation.generation import Generation
from mmrec.storage.items import ItemTable
from mmrec.storage.stored_item import StoredField
from mmrec.storage.vectors import VectorTable
from mmrec.types import modality_bits

LOWEST_RECALL = 0.9
"""Below this nothing is published; from here to the target it is, with a warning."""

ROWS_PER_PIECE = 16_384
HALF_ROUNDING = 2e-3
"""Largest distance that float16 rounding of a unit vector can explain."""

NAMED = 3
"""How many rows a fault names."""


def good_enough(measured: Recall) -> bool:
    """Whether an index that answers like this may be published."""
    return measured.self_query >= LOWEST_RECALL and measured.recall >= LOWEST_RECALL


INDEX_ADVICE = (
    ". Exact search finds all: `mmrec reindex STORE --index Flat`. A graph with more links, such as --index "
    "HNSW64,Flat, is quicker and may do"
)


def recall_shortfall(measured: Recall, index: str, advice: str = INDEX_ADVICE) -> str | None:
    """Return by how much an index misses the target recall, and the advice; None if it reaches it."""
    if measured.recall >= TARGET and measured.self_query >= TARGET:
        return None
    return (
        f"{index} finds {measured.recall:.1%} of what exact search finds, and {measured.self_query:.1%} of a sample of "
        f"items by their own vectors; the target is {TARGET:.0%}{advice}"
    )


def array_faults(generation: Generation) -> Iterator[str]:
    """Say what is wrong with row numbers, item vectors and modalities, one sentence each."""
    rows, made = generation.rows, generation.manifest
    if len(rows) != made.items:
        yield f"it holds {len(rows):,} rows, and its manifest says {made.items:,}"
    if not bool((rows[1:] > rows[:-1]).all()):
        yield "its row numbers are not ascending, each once"
    elif not np.array_equal(np.sort(generation.index.rows), rows):
        yield f"its index has other row numbers ({len(generation.index.rows):,} of them) than its vectors"
    if generation.index.dim != made.dim or generation.fusion.dim != made.dim:
        yield (
            f"its vectors have {made.dim} numbers, its index {generation.index.dim} and its fusion "
            f"{generation.fusion.dim}"
        )
        return
    if generation.index.spec.factory != made.index_factory:
        yield f"its index is {generation.index.spec.factory}, and its manifest says {made.index_factory}"
    bad = np.concatenate([np.empty(0, dtype=np.int64), *_rows_with_wrong_block_norm(generation)])
    if len(bad):
        yield f"{len(bad):,} item vectors are not finite or not of the length of their blocks{_named(rows[bad])}"


def measure_search(
    index: Index, rows: Int64[np.ndarray, " n"], vectors: Float16[np.ndarray, "n dim"], seed: int
) -> Recall:
    """Search an index for a sample of items by their own vectors, and compare the results with exact search."""
    return RecallSample.of(rows, vectors, "ip", seed).measure(index)


def find_wrong_vectors(
    generation: Generation, items: ItemTable, tables: Mapping[Block, VectorTable], sample: int | None, seed: int = 0
) -> tuple[int, Int64[np.ndarray, " w"]]:
    """Fuse rows again from the stored vectors of their contents, and compare; rows edited since are left out.

    At most `sample` rows are compared, all if it is None. Returns how many were, and the row numbers of those that
    differ.
    """
    rows = np.setdiff1d(items.rows(), items.changed_since(generation.manifest.items_version), assume_unique=True)
    if sample is not None and len(rows) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=sample, replace=False))
    wrong = [np.empty(0, dtype=np.int64)]
    for some, fields in items.batches(partial(contains, rows)) if len(rows) else ():
        wrong.append(some[_differs(generation, some, fields, tables)])
    return len(rows), np.sort(np.concatenate(wrong))


def _differs(
    generation: Generation,
    rows: Int64[np.ndarray, " n"],
    fields: Sequence[tuple[StoredField, ...]],
    tables: Mapping[Block, VectorTable],
) -> Bool[np.ndarray, " n"]:
    places = generation.find(rows)
    fused = fuse_batch(generation.fusion, tables, fields)
    known = places >= 0
    differs = ~known
    far = ~(np.linalg.norm(generation.vectors_at(places[known]) - fused.vectors[known], axis=1) <= HALF_ROUNDING)
    differs[known] = far | (generation.modalities[places[known]] != fused.modalities[known])  # NaN is far
    return differs


def _rows_with_wrong_block_norm(generation: Generation) -> Iterator[Int64[np.ndarray, " b"]]:
    """Positions of vectors with a block that is neither empty nor of the length of its weight, a piece at a time."""
    fusion = generation.fusion
    for start in range(0, len(generation.rows), ROWS_PER_PIECE):
        piece = np.asarray(generation.vectors[start : start + ROWS_PER_PIECE], dtype=np.float32)
        bits = generation.modalities[start : start + ROWS_PER_PIECE]
        good = np.isfinite(piece).all(axis=1)
        for block, part, weight in zip(fusion.blocks, fusion.slices, fusion.effective_weights, strict=True):
            length = np.linalg.norm(piece[:, part], axis=1)
            filled = length > HALF_ROUNDING
            good &= ~filled | (np.abs(length - np.sqrt(weight)) <= HALF_ROUNDING)
            good &= ~filled | ((bits & modality_bits(frozenset({block.modality}))) > 0)
        yield start + np.flatnonzero(~good)


def _named(rows: Int64[np.ndarray, " n"]) -> str:
    return f" (rows {', '.join(map(str, rows[:NAMED].tolist()))}{', ...' if len(rows) > NAMED else ''})"
