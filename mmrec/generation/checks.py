"""What must hold of a generation before it is published, and what `mmrec verify` asks of it again later."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int64

from indexers.protocol import Index
from mmrec.fusion.blocks import Block
from mmrec.generation.fuse import FusedBatch, fuse_batch
from mmrec.generation.generation import Generation, modality_bits
from mmrec.store.items import ItemTable, StoredField
from mmrec.store.vectors import VectorTable

__all__ = ["Measured", "array_faults", "bits_of", "measure_search", "mispaired"]

CHECKED_QUERIES = 200
NEIGHBOURS = 10
LOWEST_RECALL = 0.9
ROWS_PER_PIECE = 16_384
TIE = 1e-4
"""Scores closer than this are a tie."""

HALF_ROUNDING = 2e-3
"""Farther than this from what it was fused from, a vector of length one was not only rounded to float16."""

NAMED = 3
"""How many rows a fault names."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How an index answers a sample of its own vectors.

    Attributes:
        self_query: Share of the sample for which nothing is found that is farther than the vector itself.
        recall: Share of the ten nearest by exact search that are found.

    """

    self_query: float
    recall: float

    @property
    def good_enough(self) -> bool:
        """Whether such an index may be published."""
        return self.self_query >= LOWEST_RECALL and self.recall >= LOWEST_RECALL


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
    bad = np.concatenate([np.empty(0, dtype=np.int64), *_misshapen(generation)])
    if len(bad):
        yield f"{len(bad):,} item vectors are not finite or not of the length of their blocks{_named(rows[bad])}"


def measure_search(
    index: Index, rows: Int64[np.ndarray, "n"], vectors: Float16[np.ndarray, "n dim"], seed: int
) -> Measured:
    """Ask an index for a sample of items by their own vectors, and compare what is found with exact search."""
    if not len(rows):
        return Measured(1.0, 1.0)
    places = np.random.default_rng(seed).choice(len(rows), size=min(CHECKED_QUERIES, len(rows)), replace=False)
    queries = np.asarray(vectors[np.sort(places)], dtype=np.float32)
    k = min(NEIGHBOURS, len(rows))
    found = index.search(queries, k)
    scores = _inner_products(queries, found.rows, rows, vectors)
    own = float(np.mean(scores[:, 0] >= np.einsum("qd,qd->q", queries, queries) - TIE))
    return Measured(own, float(np.mean(scores >= _kth_best(queries, vectors, k) - TIE)))


def mispaired(
    generation: Generation, items: ItemTable, tables: Mapping[Block, VectorTable], sample: int | None, seed: int = 0
) -> tuple[int, Int64[np.ndarray, "w"]]:
    """Fuse rows again from the stored vectors of their contents, and compare.

    Args:
        generation: What was built; rows edited since are left out.
        items: The items.
        tables: The vectors of each block.
        sample: How many rows at most; None for all.
        seed: Of the sample.

    Returns:
        How many rows were compared, and the row numbers of those that differ.

    """
    rows = np.setdiff1d(items.rows(), items.changed_since(generation.manifest.items_version), assume_unique=True)
    if sample is not None and len(rows) > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=sample, replace=False))
    wrong = [np.empty(0, dtype=np.int64)]
    for some, fields in items.chosen(rows):
        wrong.append(some[_differs(generation, some, fields, tables)])
    return len(rows), np.sort(np.concatenate(wrong))


def bits_of(generation: Generation, fused: FusedBatch) -> np.ndarray:
    """Which modalities fused items have, as bits."""
    blocks = generation.fusion.blocks
    bits = np.array([modality_bits(frozenset({block.modality})) for block in blocks], dtype=np.uint8)
    return np.bitwise_or.reduce(np.where(fused.present, bits, 0), axis=1, dtype=np.uint8)


def _differs(
    generation: Generation,
    rows: Int64[np.ndarray, "n"],
    fields: Sequence[tuple[StoredField, ...]],
    tables: Mapping[Block, VectorTable],
) -> Bool[np.ndarray, "n"]:
    places = generation.find(rows)
    fused = fuse_batch(generation.fusion, tables, fields)
    known = places >= 0
    held = generation.vectors_at(np.where(known, places, 0)) if len(generation.rows) else np.zeros_like(fused.vectors)
    far = ~(np.linalg.norm(held - fused.vectors, axis=1) <= HALF_ROUNDING)  # NaN is far
    if len(generation.rows):
        far |= generation.modalities[np.where(known, places, 0)] != bits_of(generation, fused)
    return far | ~known


def _misshapen(generation: Generation) -> Iterator[Int64[np.ndarray, "b"]]:
    """Places of vectors whose blocks are neither empty nor of their length, a piece at a time."""
    fusion = generation.fusion
    for start in range(0, len(generation.rows), ROWS_PER_PIECE):
        piece = np.asarray(generation.vectors[start : start + ROWS_PER_PIECE], dtype=np.float32)
        bits = generation.modalities[start : start + ROWS_PER_PIECE]
        good = np.isfinite(piece).all(axis=1)
        for block, part, weight in zip(fusion.blocks, fusion.slices, fusion.weights, strict=True):
            length = np.linalg.norm(piece[:, part], axis=1)
            filled = length > HALF_ROUNDING
            good &= ~filled | (np.abs(length - np.sqrt(weight)) <= HALF_ROUNDING)
            good &= ~filled | ((bits & modality_bits(frozenset({block.modality}))) > 0)
        yield start + np.flatnonzero(~good)


def _named(rows: Int64[np.ndarray, "n"]) -> str:
    return f" (rows {', '.join(map(str, rows[:NAMED].tolist()))}{', ...' if len(rows) > NAMED else ''})"


def _inner_products(
    queries: Float32[np.ndarray, "q dim"],
    found: Int64[np.ndarray, "q k"],
    rows: Int64[np.ndarray, "n"],
    vectors: Float[np.ndarray, "n dim"],
) -> Float32[np.ndarray, "q k"]:
    """Exact scores of found rows, -inf for those not found."""
    places = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
    scores = np.einsum("qd,qkd->qk", queries, np.asarray(vectors[places], dtype=np.float32))
    return np.where(found >= 0, scores, np.float32(-np.inf))


def _kth_best(
    queries: Float32[np.ndarray, "q dim"], vectors: Float[np.ndarray, "n dim"], k: int
) -> Float32[np.ndarray, "q 1"]:
    """The k-th highest exact score of each query, a piece of the vectors at a time."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), ROWS_PER_PIECE):
        piece = np.asarray(vectors[start : start + ROWS_PER_PIECE], dtype=np.float32)
        both = np.concatenate([best, queries @ piece.T], axis=1)
        best = np.partition(both, -k, axis=1)[:, -k:]
    return best.min(axis=1, keepdims=True)
