"""Repair a store: set damaged files aside, keep what can be read, and rebuild the generation."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

from mmrec.errors import StoreError, UnreadableError, UsageError
from mmrec.fusion.fusion import Fusion, load_fusion
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import Recipe, block_contents, recipe_like, spaces_of
from mmrec.generation.generation import FUSION, Generation, open_folder
from mmrec.storage.collect import set_aside
from mmrec.storage.damage import check_files, convert_read_errors, sha256_of
from mmrec.storage.generations import Manifest, current_number, generation_folders, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock
from mmrec.storage.tables import can_open, open_table
from mmrec.storage.vectors import KeyIndex, VectorTable, key_array, key_column
from mmrec.types import Modality, Space
from mmrec.verification.findings import VerificationReport
from mmrec.verification.generations import check_current, check_generation_files, check_pairing, lacking_vectors
from mmrec.verification.salvage import drop_bad, install_salvaged, left_by_crash, salvage
from mmrec.verification.tables import (
    check_items,
    check_quarantine,
    check_sums,
    check_vectors,
    item_rows,
    quarantined_contents,
    repair_events,
    vector_rows,
)

if TYPE_CHECKING:
    import mmrec.users.tower


PACKAGED = "packaged"


@dataclass(frozen=True, slots=True, eq=False)
class RecoveredRecipe:
    """The readable part of how a store's generations were made; fusion and tower are None where unreadable."""

    recipe: Recipe
    fusion: Fusion | None = None
    tower: "mmrec.users.tower.TowerModel | None" = None


def recipe_of(layout: Layout, spaces: Callable[[str], Mapping[Modality, tuple[Space, ...]]]) -> RecoveredRecipe:
    """Read the recipe, the fusion and the tower of the current generation, or of the newest readable one.

    Without any, `spaces` gives the spaces of the encoders that a manifest names, or of the packaged ones.
    """
    manifests: list[Manifest] = []
    for number in _newest_first(layout):
        try:
            with convert_read_errors(layout.generations):
                made = read_manifest(layout, number)
                manifests.append(made)
                folder = layout.generations / str(number)
                if sha256_of(folder / FUSION, again=True) == made.sha256.get(FUSION):
                    fusion = load_fusion(folder / FUSION)
                    return RecoveredRecipe(
                        recipe_like(made, spaces_of(fusion)), fusion, _tower(layout, made.sha256[FUSION])
                    )
        except StoreError:
            continue
    encoders = manifests[0].encoders if manifests else PACKAGED
    like = recipe_like(manifests[0], spaces(encoders)) if manifests else Recipe(spaces(encoders), {}, encoders)
    return RecoveredRecipe(like)


def _tower(layout: Layout, fusion: str) -> "mmrec.users.tower.TowerModel | None":
    """The newest intact tower that was trained on the vectors of a fusion, given by its checksum."""
    from mmrec.users.tower import CONFIG, WEIGHTS, load_tower  # noqa: PLC0415 - most stores need no torch here

    for number in _newest_first(layout):
        folder = layout.generations / str(number)
        if not (folder / WEIGHTS).is_file():
            continue
        try:
            sums = _sums(layout, number)
            if sums.get(FUSION, sha256_of(folder / FUSION)) == fusion:
                check_files({folder / name: sums[name] for name in (CONFIG, WEIGHTS) if name in sums})
                return load_tower(folder)
        except StoreError:
            continue
    return None


def _sums(layout: Layout, number: int) -> Mapping[str, str]:
    """The checksums of a generation's files; none where its manifest is damaged."""
    try:
        return read_manifest(layout, number).sha256
    except UnreadableError:
        raise
    except StoreError:
        return {}


def _newest_first(layout: Layout) -> list[int]:
    taken = generation_folders(layout)[::-1]
    try:
        now = current_number(layout)
    except (StoreError, OSError):
        return taken
    return sorted(taken, key=lambda number: number != now)


@dataclass
class RepairReport:
    """Result of a repair.

    Attributes:
        actions: One sentence per action; empty where nothing was damaged that can be repaired without a source.
        generation: The generation that was built, if any.
        incomplete: Whether items may be lost, so that the source must be indexed again.

    """

    actions: list[str] = field(default_factory=list)
    generation: int | None = None
    incomplete: bool = False


def repair_store(layout: Layout, spaces: Callable[[str], Mapping[Modality, tuple[Space, ...]]]) -> RepairReport:
    """Repair what can be repaired without a source. Other jobs wait meanwhile.

    `spaces` gives the spaces of the encoders that a manifest names, for a store without a readable fusion. Raises
    StoreError where the new generation fails its checks or the store cannot be written, LinkError for a link in the
    store.
    """
    done = RepairReport()
    layout.check_links()
    with file_lock(layout.lock, JOB_WAIT_SECONDS), _native_stderr_closed():
        layout.check_links()  # the wait may have been long
        _repair_root(layout, done)
        recovered = recipe_of(layout, spaces)
        for path in left_by_crash(layout):
            _replace(layout, path, done)
        _repair_quarantine(layout, done)
        for path in sorted((layout.root / "vectors").glob("*.lance")):
            _repair_vectors(layout, path, done)
        _repair_items(layout, done)
        whole = _repair_generations(layout, done)
        done.actions += repair_events(layout)
    if not whole:
        _rebuild(layout, recovered, done)
    return done


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Discard stderr of native code: Lance's reader panics on altered files, and prints its source paths."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _repair_root(layout: Layout, done: RepairReport) -> None:
    try:
        layout.check()
    except StoreError:
        if not (layout.items.exists() or layout.generations.exists()):
            raise
        layout.write_about()
        done.actions.append("wrote store.json again")


def _repair_quarantine(layout: Layout, done: RepairReport) -> None:
    damaged = check_sums(VerificationReport(layout.root), layout, layout.quarantine)
    if damaged or _failed_checks(layout, lambda report: check_quarantine(report, layout.quarantine)):
        set_aside(layout, layout.quarantine)
        done.actions.append("set the quarantine aside; the next `mmrec index` fills it again")


def _repair_vectors(layout: Layout, path: Path, done: RepairReport) -> None:
    """Keep readable, valid vectors, the first of each content."""
    damaged = check_sums(VerificationReport(layout.root), layout, path)
    failed = _failed_checks(layout, lambda report: check_vectors(report, path)) if can_open(damaged) else set()
    if "fingerprint" in failed:
        set_aside(layout, path)
        done.actions.append(f"set {path.name} aside, which says that it is of another encoder than its name")
    elif failed or damaged:
        if "store" in failed or damaged:
            _salvage(layout, path, damaged, done)
        table = open_table(path)
        if table is not None:
            dropped = drop_bad(table, ["hash", "vector"], vector_rows)
            done.actions += [f"dropped {dropped:,} bad or doubled vectors of {path.name}"] if dropped else []


def _repair_items(layout: Layout, done: RepairReport) -> None:
    """Keep readable items with an id, the first of each; set aside generations with other row numbers."""
    damaged = check_sums(VerificationReport(layout.root), layout, layout.items)
    failed = _failed_checks(layout, lambda report: check_items(report, layout.items)) if can_open(damaged) else set()
    if failed & {"store", "count"} or damaged:
        _salvage(layout, layout.items, damaged, done)
    _drop_generations(layout, done, newer_than=ItemTable(layout.items).version)
    if failed or damaged:
        table = open_table(layout.items)
        if table is not None:
            dropped = drop_bad(table, ["id", "mmrec_fields"], item_rows)
            done.actions += [f"dropped {dropped:,} items without an id or of an id given twice"] if dropped else []


def _drop_generations(layout: Layout, done: RepairReport, newer_than: int | None = None) -> None:
    """Set aside generations built from a later version of the items than exists; all without a version."""
    for number in generation_folders(layout):
        with suppress(StoreError):
            if newer_than is None or read_manifest(layout, number).items_version > newer_than:
                set_aside(layout, layout.generations / str(number))
                done.actions.append(f"set generation {number} aside: its row numbers mean other items now")


def _salvage(layout: Layout, path: Path, damaged: set[Path], done: RepairReport) -> None:
    is_items = path == layout.items
    columns = {"id", "mmrec_fields", "mmrec_text", "mmrec_digest"} if is_items else {"hash", "vector"}
    saved = salvage(layout, path, damaged, columns, "id" if is_items else "hash")
    lost = f"{saved.lost:,} rows are lost" if saved.lost is not None else "how many rows are lost is not known"
    older = f", {saved.older:,} of them from an older version, so that deleted ones may be back" if saved.older else ""
    kept = "" if saved.whole else "; the damaged table is kept in damaged/, and `mmrec gc` leaves it there"
    done.actions.append(f"saved {saved.rows:,} rows of {path.name}{older}; {lost}{kept}")
    done.incomplete |= is_items and not saved.whole
    _replace(layout, path, done, keep=not saved.whole)


def _replace(layout: Layout, path: Path, done: RepairReport, *, keep: bool = True) -> None:
    if path == layout.items:
        # Before the items are numbered anew, or a death in between would leave generations that mean others.
        _drop_generations(layout, done)
    install_salvaged(layout, path, keep=keep)


def _repair_generations(layout: Layout, done: RepairReport) -> bool:
    """Set damaged generations aside. Returns whether an intact one is left and current."""
    bad = quarantined_contents(layout.quarantine)
    report = VerificationReport(layout.root)
    generation = check_current(report, layout, seed=0)
    if generation is not None and report.sound:
        wrong = check_pairing(report, layout, generation, bad, full=True, seed=0)
        known = wrong[generation.find(wrong) >= 0]
        _drop_contents(layout, generation, known, done)
        whole = len(known) == len(wrong)
    else:
        whole = False
    for number in generation_folders(layout):
        is_current = generation is not None and number == generation.manifest.number and report.sound
        if not is_current and _failed_checks(layout, partial(_check_whole, layout, number)):
            set_aside(layout, layout.generations / str(number))
            done.actions.append(f"set generation {number} aside, which is damaged")
    return whole


def _check_whole(layout: Layout, number: int, report: VerificationReport) -> None:
    """Check a generation that is not current as if it were."""
    folder = layout.generations / str(number)
    made = check_generation_files(report, layout, number)
    with report.guarded("checksum", folder):
        if made:
            open_folder(folder, made)


def _drop_contents(layout: Layout, generation: Generation, rows: Int64[np.ndarray, " n"], done: RepairReport) -> None:
    """Drop the vectors of contents that differ from those the intact generation was built from."""
    if not len(rows):
        return
    items = [item.fields for item in ItemTable(layout.items).by_row(rows.tolist()).values()]
    for block in generation.fusion.blocks:
        table = open_table(layout.vectors(block.space))
        contents = KeyIndex(key_array(block_contents(block, items)[1]))
        if table is not None and len(contents):
            drop_bad(table, ["hash"], partial(_not_among, contents))
    done.actions.append(f"dropped the vectors of the contents of {len(rows):,} items, which were mixed up")


def _not_among(contents: KeyIndex, batch: pa.RecordBatch) -> tuple[UInt64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    keys = key_column(batch.column("hash"))
    return keys, contents.find(keys) < 0


def _rebuild(layout: Layout, recovered: RecoveredRecipe, done: RepairReport) -> None:
    """Build a generation from the stored items and vectors. Raises StoreError where its checks fail."""
    layout.current.unlink(missing_ok=True)
    if recovered.fusion is None and _lacks_vectors(layout, recovered.recipe):
        # Fitted on what is left, it would be frozen like that.
        done.actions.append("left the store without a generation; `mmrec index` fits one when all is encoded")
        return
    try:
        made = build_generation(layout, recovered.recipe, None, fusion=recovered.fusion, tower=recovered.tower)
    except UsageError:  # no item, or none with a content that counts
        done.actions.append("left the store without a generation, as there is nothing to build one from")
    else:
        done.generation = made.number
        done.actions.append(f"built generation {made.number} from the stored vectors")


def _lacks_vectors(layout: Layout, recipe: Recipe) -> bool:
    """Whether a content that is not in quarantine has no vector."""
    items, bad = ItemTable(layout.items), quarantined_contents(layout.quarantine)
    return any(
        unexplained.any()
        for modality, some in recipe.spaces.items()
        for space in some
        for _, _, unexplained in lacking_vectors(items, VectorTable(layout.vectors(space), space), modality, bad)
    )


def _failed_checks(layout: Layout, check: Callable[[VerificationReport], object]) -> set[str]:
    report = VerificationReport(layout.root)
    check(report)
    return {finding.check for finding in report.findings}
