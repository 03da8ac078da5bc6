"""Build, check and publish a generation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from indexers.protocol import BadVectorsError, Index, IndexersError
from indexers.recall import RecallSample, tuned
from indexers.recipes import build, default_spec
from indexers.vectors import contains
from mmrec.errors import StoreError, UsageError
from mmrec.files import file_sha256, reserve, write_atomically
from mmrec.fusion.blocks import Block, block_weights
from mmrec.fusion.fusion import Fusion, dump_fusion
from mmrec.generation.checks import array_faults, find_wrong_vectors, good_enough, measure_search, recall_shortfall
from mmrec.generation.fuse import Recipe, fit_fusion, fuse_batch, open_tables
from mmrec.generation.generation import FUSION, INDEX, MODALITIES, ROWS, VECTORS, Generation, open_folder
from mmrec.generation.user_tower_index import TOWER_INDEX, pairing_fault, write_tower_index
from mmrec.storage.generations import Manifest, publish
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.tables import LEDGER, convert_write_errors, ledger
from mmrec.storage.vectors import KeyIndex, VectorTable
from mmrec.types import Modality

if TYPE_CHECKING:
    import mmrec.users.tower


CHECKED_ITEMS = 2000
"""Items whose pairing with their contents is checked before publishing; `mmrec verify` checks more."""


def stale_rows(
    layout: Layout, before: Generation, items: ItemTable, tables: Mapping[Block, VectorTable]
) -> Int64[np.ndarray, " n"]:
    """Row numbers, ascending, of items edited since a generation, and of those with a content that got a vector since.

    The latter had lost a vector, or never had one, and were encoded anew without being edited.
    """
    stale = [items.changed_since(before.manifest.items_version)]
    for block, table in tables.items():
        built_from = before.manifest.vector_versions.get(layout.vectors(block.space).name, 0)
        # A table that was set back or made anew has versions that say nothing about what was there.
        fresh = KeyIndex(table.newer_than(built_from if built_from <= (table.version or 0) else 0))
        if len(fresh):
            stale += [rows[fresh.find(keys) >= 0] for rows, keys in items.content_keys(block.modality)]
    return np.unique(np.concatenate(stale))


def build_generation(
    layout: Layout,
    recipe: Recipe,
    before: Generation | None,
    *,
    refit: bool = False,
    fusion: Fusion | None = None,
    tower: "mmrec.users.tower.TowerModel | None" = None,
) -> Manifest:
    """Build and publish a generation from the items as they are now.

    The fusion of the generation `before` is kept unless `refit` is set or it does not fit the recipe any more; with it
    the vectors of unchanged items and the tower, which was trained on them, are kept. Without a generation before, a
    `fusion` alone may be given. A new `tower`, trained on the vectors of the generation before, is dropped if the
    fusion is fitted anew. An index below the target of recall is published with a warning in the manifest. Raises
    StoreError, and publishes nothing, if a check fails.
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
    earlier = before.fusion if before is not None else fusion
    kept = earlier is not None and not refit and _fusion_matches(earlier, recipe, blocks, weights)
    kept = kept and (before is None or before.manifest.chose_weights == recipe.weights_given)
    fusion = earlier if earlier and kept else fit_fusion(items, tables, weights, recipe)
    with scratch_folder(layout) as folder, convert_write_errors(folder):
        stale = stale_rows(layout, before, items, tables) if before is not None and kept else None
        rows = _write_vectors(folder, fusion, tables, items, None if stale is None else before, stale)
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        index = _build_index(recipe, rows, vectors)
        write_atomically(folder / FUSION, dump_fusion(fusion))
        digests = {INDEX: index.save(folder / INDEX)}
        tower = tower or (before.tower_index.model if before is not None and before.tower_index is not None else None)
        tower = tower if kept else None
        if tower is not None:
            digests[TOWER_INDEX] = write_tower_index(folder, tower, rows, vectors)
        files = [layout.items, layout.quarantine, *(layout.vectors(block.space) for block in blocks)]
        write_atomically(folder / LEDGER, ledger(layout, dict.fromkeys(files)))
        versions = {layout.vectors(block.space).name: table.version or 0 for block, table in tables.items()}
        made = _manifest(folder, recipe, fusion, index, (items.version, versions))
        # The digests that save() returned, not those of the files read back.
        made = made.model_copy(update={"sha256": {**made.sha256, **digests}})
        del index  # the checks use the files on disk
        made = made.model_copy(update=_check(open_folder(folder, made), items, tables, recipe.seed))
        with file_lock(layout.lock):
            return publish(layout, folder, made)


def _build_index(recipe: Recipe, rows: np.ndarray, vectors: np.ndarray) -> Index:
    """Build the index; search parameters that were not given are found by measuring.

    Raises UsageError if the recipe does not fit the vectors or the memory.
    """
    try:
        spec = recipe.index or default_spec(len(rows), vectors.shape[1], "ip", recipe.index_memory)
        spec = spec if recipe.index else replace(spec, search={})
        index = build(spec, rows, vectors)
        return index if spec.search else tuned(index, RecallSample.of(rows, vectors, "ip", recipe.seed))
    except BadVectorsError:
        raise
    except IndexersError as error:
        raise UsageError(f"{error} Encoded vectors are kept") from error


def _manifest(
    folder: Path,
    recipe: Recipe,
    fusion: Fusion,
    index: Index,
    versions: tuple[int, dict[str, int]],
) -> Manifest:
    """Describe what was built; `versions` are those of the items and of each vector table."""
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        items_version=versions[0],
        vector_versions=versions[1],
        encoders=recipe.encoders,
        weights={str(m): float(recipe.weights.get(m, 1.0)) for m in Modality},
        weights_given=recipe.weights_given,
        agreement={one.subject: {k: v for k, v in asdict(one).items() if k != "subject"} for one in fusion.agreements},
        dim=fusion.dim,
        items=len(index),
        contents={block.name: count for block, count in zip(fusion.blocks, fusion.fitted_on, strict=True)},
        kept_energy=fusion.kept_energy,
        index_factory=index.spec.factory,
        index_search=dict(index.spec.search),
        index_given=recipe.index is not None,
        index_tuned=not (recipe.index and recipe.index.search),
        index_memory=recipe.index_memory,
        checks={},
        sha256={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )


def is_up_to_date(layout: Layout, generation: Generation, recipe: Recipe, items: ItemTable) -> bool:
    """Whether a generation is what the recipe would build from the items as they are now."""
    made = generation.manifest
    if made.items_version != items.version or made.chose_weights != recipe.weights_given:
        return False
    blocks = _blocks(recipe, items)
    if not blocks or len(stale_rows(layout, generation, items, open_tables(layout, blocks))):
        return False
    weights = block_weights(blocks, recipe.weights)
    return _fusion_matches(generation.fusion, recipe, blocks, weights) and _same_index(made, recipe)


def would_keep_fusion(generation: Generation, recipe: Recipe, items: ItemTable) -> bool:
    """Whether building with the recipe would keep a generation's fusion, and so its tower."""
    blocks = _blocks(recipe, items)
    return bool(blocks) and _fusion_matches(generation.fusion, recipe, blocks, block_weights(blocks, recipe.weights))


def _same_index(made: Manifest, recipe: Recipe) -> bool:
    if recipe.index is None:
        return not made.index_given and made.index_memory == recipe.index_memory
    search = {} if made.index_tuned else made.index_search
    return (recipe.index.factory, dict(recipe.index.search)) == (made.index_factory, search)


def _blocks(recipe: Recipe, items: ItemTable) -> list[Block]:
    """The blocks of the modalities that items have and that weigh something."""
    there = items.modalities()
    return [
        Block(space, modality)
        for modality in Modality
        if modality in there and recipe.weights.get(modality, 1.0) > 0
        for space in sorted(recipe.spaces.get(modality, ()), key=lambda space: space.name)
    ]


def _fusion_matches(fusion: Fusion, recipe: Recipe, blocks: Sequence[Block], weights: np.ndarray) -> bool:
    wanted = min(recipe.dim, sum(block.space.dim for block in blocks))
    return fusion.dim == wanted and fusion.blocks == tuple(blocks) and np.array_equal(fusion.weights, weights)


def _write_vectors(
    folder: Path,
    fusion: Fusion,
    tables: Mapping[Block, VectorTable],
    items: ItemTable,
    before: Generation | None,
    stale: Int64[np.ndarray, " s"] | None,
) -> np.ndarray:
    """Write item vectors, row numbers and modalities. Returns the row numbers.

    Vectors of the generation before are reused, except of stale rows.
    """
    rows = items.rows()
    vectors = np.lib.format.open_memmap(folder / VECTORS, mode="w+", dtype=np.float16, shape=(len(rows), fusion.dim))
    reserve(folder / VECTORS)
    modalities = np.zeros(len(rows), dtype=np.uint8)
    done = np.zeros(len(rows), dtype=bool)
    if before is not None and stale is not None:
        done = contains(before.rows, rows) & ~contains(stale, rows)
        places = before.find(rows[done])
        vectors[done] = before.vectors[places]
        modalities[done] = before.modalities[places]
    for batch_rows, batch in items.batches(lambda some: ~done[np.searchsorted(rows, some)]):
        at = np.searchsorted(rows, batch_rows)
        fused = fuse_batch(fusion, tables, batch)
        vectors[at] = fused.vectors
        modalities[at] = fused.modalities
    vectors.flush()
    np.save(folder / ROWS, rows, allow_pickle=False)
    np.save(folder / MODALITIES, modalities, allow_pickle=False)
    return rows


def _check(
    generation: Generation, items: ItemTable, tables: Mapping[Block, VectorTable], seed: int
) -> dict[str, object]:
    """Check what was written, read again from disk, as `mmrec verify` would.

    Returns the manifest's entries about it. Raises StoreError.
    """
    faults = list(array_faults(generation))
    checked, wrong = find_wrong_vectors(generation, items, tables, CHECKED_ITEMS, seed)
    if len(wrong):
        faults.append(f"{len(wrong):,} of {checked:,} items do not have the vectors of their contents")
    tower = generation.tower_index
    measured = measure_search(generation.index, generation.rows, generation.vectors, seed)
    warnings = [recall_shortfall(measured, f"the index {generation.manifest.index_factory}")]
    if tower is not None:
        fault = pairing_fault(tower, generation.rows, generation.vectors)
        faults.extend([fault] if fault else [])
        of_tower = measure_search(tower.index, generation.rows, tower.vectors, seed)
        warnings.append(recall_shortfall(of_tower, f"the index {tower.index.spec.factory} of the tower's vectors", ""))
        if not good_enough(of_tower):
            faults.append("the index of the tower's vectors does not find them")
    if not good_enough(measured):
        faults.append(
            f"the new index finds {measured.self_query:.0%} of a sample of items by their own vectors and "
            f"{measured.recall:.0%} of what exact search finds, too few to publish; give another index recipe"
        )
    if faults:
        raise StoreError(f"nothing was published, and the generation before still serves: {'. '.join(faults)}")
    return {"checks": asdict(measured), "warnings": tuple(one for one in warnings if one is not None)}
