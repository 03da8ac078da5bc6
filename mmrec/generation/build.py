"""From items and their vectors to a published generation: fit or keep the fusion, fuse, index, check, publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from indexers.protocol import Index
from indexers.recipes import build, default_spec
from indexers.types import BadVectorsError, IndexersError, IndexSpec
from mmrec.errors import StoreError, UsageError
from mmrec.fusion.blocks import Block, block_weights
from mmrec.fusion.files import dump_fusion
from mmrec.fusion.fusion import Fusion, fit
from mmrec.generation.fuse import block_contents, fuse_batch, open_tables
from mmrec.generation.generation import FUSION, INDEX, MODALITIES, ROWS, VECTORS, Generation, modality_bits
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.files import file_sha256, reserve, write_atomically
from mmrec.store.generations import Manifest, publish
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.lock import commit_lock
from mmrec.store.scratch import scratch_folder
from mmrec.store.tables import writing
from mmrec.store.vectors import VectorTable

__all__ = ["Recipe", "build_generation", "follows"]

FIT_SAMPLE = 20_000
CHECKED_QUERIES = 200
LOWEST_RECALL = 0.9
ROWS_PER_PIECE = 16_384
TIE = 1e-4
"""Scores closer than this are a tie."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a generation is made.

    Attributes:
        spaces: The spaces of each modality.
        weights: Weight of each modality; those not named weigh 1.
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


def build_generation(layout: Layout, recipe: Recipe, before: Generation | None, *, refit: bool = False) -> Manifest:
    """Build and publish a generation from the items as they are now.

    The fusion of the generation before is kept unless `refit` is set or it does not fit the recipe any more; then the
    vectors of unchanged items are kept too. Raises StoreError, and publishes nothing, where a check fails.
    """
    items = ItemTable(layout.items)
    blocks = _blocks(recipe, items)
    if not blocks:
        raise UsageError(
            "no item has a content that can be encoded and weighs anything, so there is nothing to search; see why "
            f"with `mmrec quarantine {layout.root}`"
        )
    tables = open_tables(layout, blocks)
    weights = block_weights(blocks, recipe.weights)
    kept = before is not None and not refit and _still_fits(before, recipe, blocks, weights)
    fusion = before.fusion if before is not None and kept else _fit(recipe, items, blocks, weights, tables)
    with scratch_folder(layout) as folder, writing(folder):
        rows = _write_vectors(folder, fusion, tables, items, before if kept else None)
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        index = _build_index(recipe, rows, vectors)
        checks = _check(index, rows, vectors, recipe.seed)
        write_atomically(folder / FUSION, dump_fusion(fusion))
        index.save(folder / INDEX)
        versions = {layout.vectors(block.space).name: table.version or 0 for block, table in tables.items()}
        made = _manifest(folder, recipe, fusion, index, checks, (items.version, versions))
        with commit_lock(layout.lock):
            return publish(layout, folder, made)


def _build_index(recipe: Recipe, rows: np.ndarray, vectors: np.ndarray) -> Index:
    """Build the index. Raises UsageError where its recipe does not fit the vectors or the memory."""
    try:
        spec = recipe.index or default_spec(len(rows), vectors.shape[1], "ip", recipe.index_memory)
        return build(spec, rows, vectors)
    except BadVectorsError:
        raise
    except IndexersError as error:
        raise UsageError(f"{error} Encoded vectors are kept") from error


def _manifest(
    folder: Path,
    recipe: Recipe,
    fusion: Fusion,
    index: Index,
    checks: dict[str, float],
    versions: tuple[int, dict[str, int]],
) -> Manifest:
    """Describe what was built; `versions` are those of the items and of each vector table."""
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        items_version=versions[0],
        vector_versions=versions[1],
        encoders=recipe.encoders,
        weights={str(m): float(recipe.weights.get(m, 1.0)) for m in Modality},
        dim=fusion.dim,
        items=len(index),
        contents={block.name: count for block, count in zip(fusion.blocks, fusion.fitted_on, strict=True)},
        kept_energy=fusion.kept_energy,
        index_factory=index.spec.factory,
        index_search=dict(index.spec.search),
        index_given=recipe.index is not None,
        index_memory=recipe.index_memory,
        checks=checks,
        sha256={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )


def follows(generation: Generation, recipe: Recipe, items: ItemTable) -> bool:
    """Whether a generation is what the recipe would make of the items as they are now."""
    if generation.manifest.items_version != items.version:
        return False
    blocks = _blocks(recipe, items)
    if not blocks:
        return False
    return _still_fits(generation, recipe, blocks, block_weights(blocks, recipe.weights)) and _same_index(
        generation.manifest, recipe
    )


def _same_index(made: Manifest, recipe: Recipe) -> bool:
    if recipe.index is None:
        return not made.index_given and made.index_memory == recipe.index_memory
    return (recipe.index.factory, dict(recipe.index.search)) == (made.index_factory, made.index_search)


def _blocks(recipe: Recipe, items: ItemTable) -> list[Block]:
    """The blocks of the modalities that items have and that weigh something."""
    there = items.modalities()
    return [
        Block(space, modality)
        for modality in Modality
        if modality in there and recipe.weights.get(modality, 1.0) > 0
        for space in sorted(recipe.spaces.get(modality, ()), key=lambda space: space.name)
    ]


def _still_fits(before: Generation, recipe: Recipe, blocks: Sequence[Block], weights: np.ndarray) -> bool:
    fusion = before.fusion
    wanted = min(recipe.dim, sum(block.space.dim for block in blocks))
    return fusion.dim == wanted and fusion.blocks == tuple(blocks) and np.array_equal(fusion.weights, weights)


def _fit(
    recipe: Recipe,
    items: ItemTable,
    blocks: Sequence[Block],
    weights: Float32[np.ndarray, "blocks"],
    tables: Mapping[Block, VectorTable],
) -> Fusion:
    rng = np.random.default_rng(recipe.seed)
    share = min(1.0, FIT_SAMPLE / max(len(items), 1))
    samples: list[list[np.ndarray]] = [[] for _ in blocks]
    for _, drawn in items.batches(lambda rows: rng.random(len(rows)) < share):
        for block, sample in zip(blocks, samples, strict=True):
            found, vectors = tables[block].fetch(block_contents(block, drawn)[1])
            sample.append(vectors[found])
    gathered = [np.concatenate(sample) for sample in samples]
    return fit(blocks, weights, gathered, recipe.dim)


def _write_vectors(
    folder: Path, fusion: Fusion, tables: Mapping[Block, VectorTable], items: ItemTable, before: Generation | None
) -> np.ndarray:
    """Write item vectors, row numbers and modalities. Returns the row numbers."""
    rows = items.rows()
    vectors = np.lib.format.open_memmap(folder / VECTORS, mode="w+", dtype=np.float16, shape=(len(rows), fusion.dim))
    reserve(folder / VECTORS)
    modalities = np.zeros(len(rows), dtype=np.uint8)
    done = np.zeros(len(rows), dtype=bool)
    if before is not None:
        places = before.find(rows)
        places[np.isin(rows, items.changed_since(before.manifest.items_version))] = -1
        done = places >= 0
        vectors[done] = before.vectors[places[done]]
        modalities[done] = before.modalities[places[done]]
    bits = np.array([modality_bits(frozenset({block.modality})) for block in fusion.blocks], dtype=np.uint8)
    for batch_rows, batch in items.batches(lambda some: ~done[np.searchsorted(rows, some)]):
        at = np.searchsorted(rows, batch_rows)
        fused = fuse_batch(fusion, tables, batch)
        vectors[at] = fused.vectors
        modalities[at] = np.bitwise_or.reduce(np.where(fused.present, bits, 0), axis=1, dtype=np.uint8)
    vectors.flush()
    np.save(folder / ROWS, rows, allow_pickle=False)
    np.save(folder / MODALITIES, modalities, allow_pickle=False)
    return rows


def _check(index: Index, rows: np.ndarray, vectors: np.ndarray, seed: int) -> dict[str, float]:
    """Ask for items by their own vectors, and compare with exact search. Raises StoreError where that fails."""
    if not len(rows):
        return {"self_query": 1.0, "recall": 1.0}
    places = np.random.default_rng(seed).choice(len(rows), size=min(CHECKED_QUERIES, len(rows)), replace=False)
    queries = np.asarray(vectors[np.sort(places)], dtype=np.float32)
    k = min(10, len(rows))
    found = index.search(queries, k)
    true_scores = _inner_products(queries, found.rows, rows, vectors)
    own = float(np.mean(true_scores[:, 0] >= np.einsum("qd,qd->q", queries, queries) - TIE))
    recall = float(np.mean(true_scores >= _kth_best(queries, vectors, k) - TIE))
    if own < LOWEST_RECALL or recall < LOWEST_RECALL:
        msg = (
            f"the new index finds {own:.0%} of {len(queries)} items by their own vectors and {recall:.0%} of what "
            "exact search finds, too few to publish; the generation before still serves. Give another index recipe"
        )
        raise StoreError(msg)
    return {"self_query": own, "recall": recall}


def _inner_products(queries: np.ndarray, found: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Exact scores of found rows, -inf for those not found."""
    places = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
    scores = np.einsum("qd,qkd->qk", queries, np.asarray(vectors[places], dtype=np.float32))
    return np.where(found >= 0, scores, -np.inf)


def _kth_best(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """The k-th highest exact score of each query, a piece of the vectors at a time."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), ROWS_PER_PIECE):
        piece = np.asarray(vectors[start : start + ROWS_PER_PIECE], dtype=np.float32)
        both = np.concatenate([best, queries @ piece.T], axis=1)
        best = np.partition(both, -k, axis=1)[:, -k:]
    return best.min(axis=1, keepdims=True)
