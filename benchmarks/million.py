"""A store of a million items: opened, searched, filtered, verified: ``python -m benchmarks.million``.

The vectors are synthetic (128 numbers, 2,000 clusters of like size); all the rest is what `mmrec index` writes: the
table of items, the table of vectors, a generation. Each step runs in a process of its own, so that its peak of memory
is its own; pages of mapped files count where they were touched. Queries are by item, one at a time; the filter lets
1% of the items pass. ``--quick`` takes 100,000 items, ``--index`` another recipe.
"""

import argparse
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

import mmrec
from benchmarks.peaks import peak_megabytes
from benchmarks.report import WORK, show
from indexers.protocol import IndexSpec
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import Recipe
from mmrec.sources.media_access import content_hash
from mmrec.storage.layout import Layout
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.staging import StagedItems, commit_items
from mmrec.storage.stored_item import StoredField, StoredItem, item_schema
from mmrec.storage.vectors import VectorAppender
from mmrec.types import Modality, Space
from mmrec.verification.verify import verify_store

SPACE = Space("synthetic", 128, "synthetic-128-clusters-2000-seed-0")
CLUSTERS = 2000
SHELVES = 100
PIECE = 50_000
QUERIES = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What one step is told."""

    root: Path
    rows: int
    index: IndexSpec | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run that shows whether it works")
    parser.add_argument("--index", metavar="FACTORY", default="default", help="recipe; by size without it")
    given = parser.parse_args()
    rows = 100_000 if given.quick else 1_000_000
    effort = {"nprobe": 32} if given.index.startswith("IVF") else {}
    spec = None if given.index == "default" else IndexSpec(given.index, "ip", effort)
    asked = Asked(WORK / f"million-{rows}", rows, spec)
    shutil.rmtree(asked.root, ignore_errors=True)
    table: list[tuple[object, ...]] = [("step", "seconds", "peak MB")]
    figures: dict[str, float] = {"rows": rows}
    for step in (
        nothing,
        write_items,
        write_vectors,
        build,
        opened,
        searched,
        filtered,
        reopened,
        verified,
        verified_in_full,
    ):
        # A process of its own has a peak of memory of its own.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured, peak = pool.apply(alone, (step, asked))
        for name, seconds in measured.items():
            table.append((name.replace("_", " "), seconds, round(peak)))
            figures[f"{name}_seconds"] = seconds
        figures[f"{step.__name__}_peak_mb"] = peak
    show(f"{rows:,} items, {given.index}", table, figures)


def alone(step: Callable[[Asked], dict[str, float]], asked: Asked) -> tuple[dict[str, float], float]:
    """What a step measured, in seconds, and the most memory its process held, in megabytes."""
    measured = step(asked)
    return measured, peak_megabytes()


def nothing(_: Asked) -> dict[str, float]:
    """Load the libraries alone: the ground that the other peaks stand on."""
    return {"nothing": 0.0}


def write_items(asked: Asked) -> dict[str, float]:
    """Stage and commit all items, as a job does."""
    layout = Layout(asked.root)
    layout.create()
    started = time.perf_counter()
    schema = item_schema(pa.schema([("shelf", pa.int64())]))
    with scratch_folder(layout) as folder:
        staged = StagedItems(folder, schema)
        for row in range(asked.rows):
            key = content_hash(b"%d" % row)
            field = StoredField(Modality.TEXT, "title", key)
            staged.add(StoredItem(f"item{row}", key, f"item number {row}", (field,), {"shelf": row % SHELVES}))
        staged.close()
        commit_items(layout.items, staged)
    return {"items_written": time.perf_counter() - started}


def write_vectors(asked: Asked) -> dict[str, float]:
    """Commit all vectors, in pieces as a job does."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, SPACE.dim)).astype(np.float32)
    spent = 0.0
    for start in range(0, asked.rows, PIECE):
        noise = rng.normal(size=(min(PIECE, asked.rows - start), SPACE.dim)).astype(np.float32)
        vectors = centres[rng.integers(CLUSTERS, size=len(noise))] + noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        hashes = [content_hash(b"%d" % row) for row in range(start, start + len(noise))]
        started = time.perf_counter()
        VectorAppender(Layout(asked.root).vectors(SPACE), SPACE).append(hashes, vectors)
        spent += time.perf_counter() - started
    return {"vectors_written": spent}


def build(asked: Asked) -> dict[str, float]:
    """Fit, fuse, index, check, publish."""
    started = time.perf_counter()
    build_generation(Layout(asked.root), Recipe({Modality.TEXT: (SPACE,)}, index=asked.index), None)
    return {"generation_built": time.perf_counter() - started}


def opened(asked: Asked) -> dict[str, float]:
    """Open the store, and ask for its state again."""
    started = time.perf_counter()
    engine = mmrec.open(asked.root)
    engine.status()
    first = time.perf_counter() - started
    return {"opened": first, "status": _median(lambda _: engine.status(), 10)}


def searched(asked: Asked) -> dict[str, float]:
    """Ask for neighbours of items."""
    engine = mmrec.open(asked.root)
    return {"query": _median(lambda n: engine.similar(_name(asked, n)), QUERIES)}


def filtered(asked: Asked) -> dict[str, float]:
    """Ask for neighbours of items among one in a hundred."""
    engine = mmrec.open(asked.root)

    def ask(n: int) -> None:
        found = engine.similar(_name(asked, n), where=f"shelf = {n % SHELVES}")
        assert len(found.hits) == 10  # noqa: S101 a benchmark of wrong answers is worth nothing
        assert {hit.metadata["shelf"] for hit in found.hits} == {n % SHELVES}  # noqa: S101

    return {"query_1_percent": _median(ask, QUERIES)}


def reopened(asked: Asked) -> dict[str, float]:
    """Ask after each of some deletions, so that every query takes a new snapshot."""
    engine = mmrec.open(asked.root)
    engine.similar(_name(asked, 0))

    def ask(n: int) -> None:
        engine.delete(f"item{n}")
        engine.similar(_name(asked, n))

    return {"delete_and_query": _median(ask, 5)}


def verified(asked: Asked) -> dict[str, float]:
    """Verify, with a sample of the pairing."""
    return {"verified": _verified(asked, full=False)}


def verified_in_full(asked: Asked) -> dict[str, float]:
    """Verify the pairing of all items."""
    return {"verified_in_full": _verified(asked, full=True)}


def _verified(asked: Asked, *, full: bool) -> float:
    report = verify_store(Layout(asked.root), full=full)
    assert report.sound, report.findings  # noqa: S101 as above
    return report.seconds


def _name(asked: Asked, n: int) -> str:
    """An item far from those that are deleted."""
    return f"item{asked.rows // 2 + 7919 * n % (asked.rows // 2)}"


def _median(ask: Callable[[int], object], times: int) -> float:
    ask(0)
    spent = []
    for n in range(1, times + 1):
        started = time.perf_counter()
        ask(n)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
