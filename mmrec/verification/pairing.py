"""Checks that items, the vectors of their contents, and the vectors of a generation belong together."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from mmrec.fusion.blocks import Block
from mmrec.generation.checks import mispaired
from mmrec.generation.fuse import open_tables
from mmrec.generation.generation import Generation
from mmrec.store.items import ItemTable
from mmrec.store.keys import KeyIndex, as_words
from mmrec.store.layout import Layout
from mmrec.store.vectors import VectorTable
from mmrec.verification.findings import Report

__all__ = ["check_pairing"]

FULL_BELOW = 100_000
SAMPLE = 20_000
NAMED = 3


def check_pairing(
    report: Report, layout: Layout, generation: Generation, bad: set[tuple[str, bytes]], *, full: bool, seed: int
) -> Int64[np.ndarray, " w"]:
    """Check that contents have vectors, and items those of their contents.

    Args:
        report: Where findings go.
        layout: The store.
        generation: The current one.
        bad: Modality and hash of the contents in quarantine, which need no vector.
        full: Compare all items also where there are more than `FULL_BELOW`.
        seed: Of the sample that is compared otherwise.

    Returns:
        Rows of the items whose vectors are not those of their contents.

    """
    wrong = np.empty(0, dtype=np.int64)
    with report.guarded("pairing", layout.items, report.mend, report.index):
        items = ItemTable(layout.items)
        made = generation.manifest
        if items.version < made.items_version:
            what = f"it is at version {items.version}, and generation {made.number} was built from {made.items_version}"
            report.add("count", layout.items, what, report.mend, report.index)
            return wrong
        tables = open_tables(layout, generation.fusion.blocks)
        lacking = _check_contents(report, layout, items, tables, bad)
        sample = None if full or len(items) <= FULL_BELOW else SAMPLE
        report.checked["paired"], differing = mispaired(generation, items, tables, sample, seed)
        wrong = np.setdiff1d(differing, lacking)
        absent = wrong[generation.find(wrong) < 0]
        folder = layout.generations / str(made.number)
        if len(absent):
            what = f"{len(absent):,} items have no vector in it: {_ids(items, absent)}"
            report.add("pairing", folder, what)
        if len(wrong) > len(absent):
            others = np.setdiff1d(wrong, absent)
            what = f"{len(others):,} items have other vectors in it than their contents: {_ids(items, others)}"
            report.add("pairing", folder, what, report.mend, report.index)
    return wrong


def _check_contents(
    report: Report,
    layout: Layout,
    items: ItemTable,
    tables: Mapping[Block, VectorTable],
    bad: set[tuple[str, bytes]],
) -> Int64[np.ndarray, " n"]:
    """Report contents without a vector that are not in quarantine. Returns all rows that lack a vector."""
    lacking = [np.empty(0, dtype=np.int64)]
    report.checked["contents"] = 0
    for block, table in tables.items():
        known = KeyIndex(as_words([key for modality, key in bad if modality == block.modality]))
        rows = [np.empty(0, dtype=np.int64)]
        for owners, keys in items.content_keys(block.modality):
            report.checked["contents"] += len(keys)
            missing = ~table.has_keys(keys)
            lacking.append(owners[missing])
            rows.append(owners[missing][known.find(keys[missing]) < 0])
        dangling = np.concatenate(rows)
        if len(dangling):
            what = f"{len(dangling):,} contents have no vector: {_ids(items, np.unique(dangling))}"
            report.add("content", layout.vectors(block.space), what, report.index)
    return np.unique(np.concatenate(lacking))


def _ids(items: ItemTable, rows: Sequence[int] | Int64[np.ndarray, " n"]) -> str:
    found = items.by_row([int(row) for row in rows[:NAMED]])
    return ", ".join(repr(item.id) for item in found.values()) + (", ..." if len(rows) > NAMED else "")
