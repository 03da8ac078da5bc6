"""Checks of generations: every file against its checksum, and of the current one all that it was published for."""

from pathlib import Path

from indexers.recall import Recall
from mmrec.generation.checks import array_faults, good_enough, measure_search, shortfall
from mmrec.generation.generation import INDEX, Generation, open_folder
from mmrec.generation.taste import TASTE_INDEX, pairing_fault
from mmrec.store.checksums import sha256_of
from mmrec.store.generations import Manifest, current, manifest, numbers
from mmrec.store.layout import Layout
from mmrec.verification.findings import Report

__all__ = ["check_current", "check_files", "check_others"]

MANIFEST = "manifest.json"


def check_current(report: Report, layout: Layout, seed: int) -> Generation | None:
    """Check the generation that answers queries. Returns it where it can be opened."""
    number = None
    with report.guarded("store", layout.current):
        number = current(layout)
        if number is None:
            there = f"; there are {numbers(layout)}" if numbers(layout) else ""
            report.add("store", layout.current, f"no generation is current{there}", report.mend, report.index)
    if number is None:
        return None
    folder = layout.generations / str(number)
    made = check_files(report, layout, number)
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


def check_others(report: Report, layout: Layout) -> None:
    """Check that every other generation could be gone back to."""
    with report.guarded("store", layout.current):
        now = current(layout)
        folders = layout.generations.iterdir() if layout.generations.is_dir() else ()
        taken = sorted(int(folder.name) for folder in folders if folder.name.isdigit())
        for number in [number for number in taken if number != now]:
            made = check_files(report, layout, number)
            if made and INDEX in made.sha256:
                _check_sum(report, layout.generations / str(number) / INDEX, made.sha256[INDEX])
        report.checked["generations"] = len(taken)


def check_files(report: Report, layout: Layout, number: int) -> Manifest | None:
    """Check a generation's manifest and files; the index is left to who opens it. Returns the manifest."""
    folder = layout.generations / str(number)
    with report.guarded("manifest", folder / MANIFEST):
        made = manifest(layout, number)
        for name, digest in made.sha256.items():
            if name != INDEX:
                _check_sum(report, folder / name, digest)
        foreign = sorted({path.name for path in folder.iterdir()} - set(made.sha256) - {MANIFEST})
        if foreign:
            report.notes.append(f"generations/{number} holds files that are not its own: {', '.join(foreign)}")
        return made
    return None


def _check_sum(report: Report, path: Path, digest: str) -> None:
    with report.guarded("checksum", path):
        if sha256_of(path, again=True) != digest:
            report.add("checksum", path, "it is not the file that was published: its SHA-256 is another")


def _check_fusion(report: Report, layout: Layout, generation: Generation, folder: Path) -> None:
    """The manifest and the fusion name the same spaces and weights."""
    made, blocks = generation.manifest, generation.fusion.blocks
    tables = {layout.vectors(block.space).name for block in blocks}
    if tables != set(made.vector_versions) or {block.name for block in blocks} != set(made.contents):
        what = f"its fusion is of {sorted(tables)}, and its manifest says {sorted(made.vector_versions)}"
        report.add("fingerprint", folder, what)


def _check_search(report: Report, generation: Generation, seed: int) -> None:
    """The index finds what exact search finds, and so does that of the tower, which places the items where they are."""
    rows, taste = generation.rows, generation.taste
    measured = measure_search(generation.index, rows, generation.vectors, seed)
    report.checked |= {"self_query": measured.self_query, "recall": measured.recall}
    _report_recall(report, measured, generation.folder / INDEX)
    if taste is None:
        return
    fault = pairing_fault(taste, rows, generation.vectors)
    if fault is not None:
        report.add("pairing", generation.folder, fault)
        return
    measured = measure_search(taste.index, rows, taste.vectors, seed)
    report.checked |= {"taste_recall": measured.recall}
    _report_recall(report, measured, generation.folder / TASTE_INDEX)


def _report_recall(report: Report, measured: Recall, path: Path) -> None:
    if not good_enough(measured):
        what = (
            f"the index finds {measured.self_query:.0%} of a sample of items by their own vectors and "
            f"{measured.recall:.0%} of what exact search finds"
        )
        report.add("recall", path, what)
    elif said := shortfall(measured, f"the index {path}", ""):
        report.notes.append(said)
