"""Verify generations: file checksums, counts, and that items, content vectors and fused vectors belong together."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from indexers.recall import Recall
from mmrec.fusion.blocks import Block
from mmrec.generation.checks import array_faults, find_wrong_vectors, good_enough, measure_search, recall_shortfall
from mmrec.generation.fuse import open_tables
from mmrec.generation.generation import INDEX, Generation, open_folder
from mmrec.generation.user_tower_index import TOWER_INDEX, pairing_fault
from mmrec.storage.damage import sha256_of
from mmrec.storage.generations import Manifest, current_number, generation_folders, generation_numbers, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import KeyIndex, VectorTable, key_array
from mmrec.types import Modality
from mmrec.verification.findings import VerificationReport

MANIFEST = "manifest.json"


def check_current(report: VerificationReport, layout: Layout, seed: int) -> Generation | None:
    """Check the current generation. Returns it where it can be opened."""
    number = None
    with report.guarded("store", layout.current):
        number = current_number(layout)
        if number is None:
            there = f"; there are {generation_numbers(layout)}" if generation_numbers(layout) else ""
            report.add("store", layout.current, f"no generation is current{there}", report.repair, report.index)
    if number is None:
        return None
    folder = layout.generations / str(number)
    made = check_generation_files(report, layout, number)
    generation = None
    with report.guarded("checksum", folder):
        generation = open_folder(folder, made) if made else None
    if made is None or generation is None:
        return None
    with report.guarded("count", folder):
        faults = list(array_faults(generation))
        for fault in faults:
            report.add("count", folder, fault)
        _check_fusion(report, layout, generation, folder)
        if not faults:
            _check_search(report, generation, seed)
    return generation


def check_others(report: VerificationReport, layout: Layout) -> None:
    """Check that every other generation could be rolled back to."""
    with report.guarded("store", layout.current):
        now = current_number(layout)
        taken = generation_folders(layout)
        for number in [number for number in taken if number != now]:
            made = check_generation_files(report, layout, number)
            if made and INDEX in made.sha256:
                _check_sum(report, layout.generations / str(number) / INDEX, made.sha256[INDEX])
        report.checked["generations"] = len(taken)


def check_generation_files(report: VerificationReport, layout: Layout, number: int) -> Manifest | None:
    """Check a generation's manifest and files, except the index. Returns the manifest."""
    folder = layout.generations / str(number)
    with report.guarded("manifest", folder / MANIFEST):
        made = read_manifest(layout, number)
        for name, digest in made.sha256.items():
            if name != INDEX:
                _check_sum(report, folder / name, digest)
        foreign = sorted({path.name for path in folder.iterdir()} - set(made.sha256) - {MANIFEST})
        if foreign:
            report.notes.append(f"generations/{number} holds files that are not its own: {', '.join(foreign)}")
        return made
    return None


def _check_sum(report: VerificationReport, path: Path, digest: str) -> None:
    with report.guarded("checksum", path):
        if sha256_of(path, again=True) != digest:
            report.add("checksum", path, "it is not the file that was published: its SHA-256 is another")


def _check_fusion(report: VerificationReport, layout: Layout, generation: Generation, folder: Path) -> None:
    """The manifest and the fusion name the same spaces and weights."""
    made, blocks = generation.manifest, generation.fusion.blocks
    tables = {layout.vectors(block.space).name for block in blocks}
    if tables != set(made.vector_versions) or {block.name for block in blocks} != set(made.contents):
        what = f"its fusion is of {sorted(tables)}, and its manifest says {sorted(made.vector_versions)}"
        report.add("fingerprint", folder, what)


def _check_search(report: VerificationReport, generation: Generation, seed: int) -> None:
    """The index, and likewise that of the tower if its vectors match, find what exact search finds."""
    rows, tower = generation.rows, generation.tower_index
    measured = measure_search(generation.index, rows, generation.vectors, seed)
    report.checked |= {"self_query": measured.self_query, "recall": measured.recall}
    _report_recall(report, measured, generation.folder / INDEX)
    if tower is None:
        return
    fault = pairing_fault(tower, rows, generation.vectors)
    if fault is not None:
        report.add("pairing", generation.folder, fault)
        return
    measured = measure_search(tower.index, rows, tower.vectors, seed)
    report.checked |= {"taste_recall": measured.recall}
    _report_recall(report, measured, generation.folder / TOWER_INDEX)


def _report_recall(report: VerificationReport, measured: Recall, path: Path) -> None:
    if not good_enough(measured):
        what = (
            f"the index finds {measured.self_query:.0%} of a sample of items by their own vectors and "
            f"{measured.recall:.0%} of what exact search finds"
        )
        report.add("recall", path, what)
    elif note := recall_shortfall(measured, f"the index {path}", ""):
        report.notes.append(note)


FULL_BELOW = 100_000
SAMPLE = 20_000
NAMED = 3


def check_pairing(
    report: VerificationReport,
    layout: Layout,
    generation: Generation,
    quarantined: set[tuple[str, bytes]],
    *,
    full: bool,
    seed: int,
) -> Int64[np.ndarray, " w"]:
    """Check that contents have vectors, and that the vectors of items are those of their contents.

    Contents in quarantine, by modality and hash, need no vector. With more than `FULL_BELOW` items a sample is
    compared, unless `full` is set. Returns the rows of items whose vectors differ.
    """
    wrong = np.empty(0, dtype=np.int64)
    with report.guarded("pairing", layout.items, report.repair, report.index):
        items = ItemTable(layout.items)
        made = generation.manifest
        if items.version < made.items_version:
            what = f"it is at version {items.version}, and generation {made.number} was built from {made.items_version}"
            report.add("count", layout.items, what, report.repair, report.index)
            return wrong
        tables = open_tables(layout, generation.fusion.blocks)
        lacking = _check_contents(report, layout, items, tables, quarantined)
        sample = None if full or len(items) <= FULL_BELOW else SAMPLE
        report.checked["paired"], differing = find_wrong_vectors(generation, items, tables, sample, seed)
        wrong = np.setdiff1d(differing, lacking)
        absent = wrong[generation.find(wrong) < 0]
        folder = layout.generations / str(made.number)
        if len(absent):
            what = f"{len(absent):,} items have no vector in it: {_ids(items, absent)}"
            report.add("pairing", folder, what)
        if len(wrong) > len(absent):
            others = np.setdiff1d(wrong, absent)
            what = f"{len(others):,} items have other vectors in it than their contents: {_ids(items, others)}"
            report.add("pairing", folder, what, report.repair, report.index)
    return wrong


def _check_contents(
    report: VerificationReport,
    layout: Layout,
    items: ItemTable,
    tables: Mapping[Block, VectorTable],
    quarantined: set[tuple[str, bytes]],
) -> Int64[np.ndarray, " n"]:
    """Report contents without a vector that are not in quarantine. Returns all rows that lack a vector."""
    lacking = [np.empty(0, dtype=np.int64)]
    report.checked["contents"] = 0
    for block, table in tables.items():
        dangling = [np.empty(0, dtype=np.int64)]
        for owners, missing, unexplained in lacking_vectors(items, table, block.modality, quarantined):
            report.checked["contents"] += len(owners)
            lacking.append(owners[missing])
            dangling.append(owners[unexplained])
        rows = np.concatenate(dangling)
        if len(rows):
            what = f"{len(rows):,} contents have no vector: {_ids(items, np.unique(rows))}"
            report.add("content", layout.vectors(block.space), what, report.index)
    return np.unique(np.concatenate(lacking))


def lacking_vectors(
    items: ItemTable, table: VectorTable, modality: Modality, quarantined: set[tuple[str, bytes]]
) -> Iterator[tuple[Int64[np.ndarray, " c"], Bool[np.ndarray, " c"], Bool[np.ndarray, " c"]]]:
    """Items of contents; which contents lack a vector; and which of these are not in quarantine."""
    known = KeyIndex(key_array([key for of, key in quarantined if of == modality]))
    for owners, keys in items.content_keys(modality):
        missing = ~table.has_keys(keys)
        yield owners, missing, missing & (known.find(keys) < 0)


def _ids(items: ItemTable, rows: Sequence[int] | Int64[np.ndarray, " n"]) -> str:
    found = items.by_row([int(row) for row in rows[:NAMED]])
    return ", ".join(repr(item.id) for item in found.values()) + (", ..." if len(rows) > NAMED else "")
