"""Choose the index of a store by measuring recipes on its own vectors, with item, text, image and audio queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32, Int64

from indexers.protocol import IndexersError
from indexers.tuning import RECIPES, Requirement, Trial, Tuning, tune
from mmrec.compute import configure_threads
from mmrec.errors import UsageError
from mmrec.fusion.blocks import Block
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import block_contents, open_tables, recipe_like, spaces_of
from mmrec.generation.generation import Generation, open_generation
from mmrec.reporting import SILENT, Reporter, warn_of
from mmrec.storage.generations import current_number
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import job_lock
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality, Space

QUERIES_PER_KIND = 400


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """Options of ``mmrec tune``.

    Attributes:
        wanted: What the index must do.
        recipes: FAISS factory strings that are tried.
        apply: Publish a generation with the chosen index.
        seed: Of the sample of queries.

    """

    wanted: Requirement = field(default_factory=Requirement)
    recipes: Sequence[str] = RECIPES
    apply: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TuneSummary:
    """What tuning found.

    Attributes:
        tuning: All trials and the choice.
        queries: Number of queries by kind: ``item``, and one kind a modality.
        generation: Number of the generation that was published with the choice; None where none was.

    """

    tuning: Tuning
    queries: Mapping[str, int]
    generation: int | None = None

    def rows(self, wanted: Requirement) -> list[dict[str, object]]:
        """Rows of a table, one for each trial, the fastest first."""
        trials = sorted(self.tuning.trials, key=lambda one: -one.queries_per_second)
        return [_row(one, self.tuning, wanted) for one in trials]


def tune_index(layout: Layout, options: TuneOptions, reporter: Reporter = SILENT) -> TuneSummary:
    """Measure recipes on the current generation, and publish one with the best if `options.apply` is set.

    Raises StoreError where the store has no generation, UsageError where no recipe fits the memory, or none meets the
    requirement and one is to be applied: nothing is published then.
    """
    configure_threads()
    with job_lock(layout.job_lock):
        number = current_number(layout)
        if number is None:
            raise UsageError(f"{layout.root} has no generation yet; index a catalog: mmrec index SOURCE {layout.root}")
        generation = open_generation(layout, number)
        kinds = sample_queries(layout, generation, options.seed)
        queries = np.concatenate(list(kinds.values()))
        queries = queries[np.random.default_rng(options.seed).permutation(len(queries))]
        try:
            tuning = tune(
                *(generation.rows, generation.vectors, queries, options.wanted),
                recipes=options.recipes,
                report=lambda one: reporter.note(f"Measured {describe(one)}."),
            )
        except IndexersError as error:
            raise UsageError(str(error)) from error
        counts = {kind: len(some) for kind, some in kinds.items()}
        if not options.apply:
            return TuneSummary(tuning, counts)
        if tuning.choice is None:
            raise UsageError(f"{infeasible(tuning, options.wanted)}. Ask for less, or give fewer dimensions")
        return TuneSummary(tuning, counts, _publish(layout, generation, tuning.choice, reporter))


def sample_queries(layout: Layout, generation: Generation, seed: int) -> dict[str, Float32[np.ndarray, "q dim"]]:
    """Draw queries by items, and by single contents of each modality, as vectors that the index is searched with."""
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(len(generation.rows))[:QUERIES_PER_KIND])
    kinds = {"item": generation.vectors_at(places)}
    tables = open_tables(layout, generation.fusion.blocks)
    items = ItemTable(layout.items)
    for modality in sorted({block.modality for block in generation.fusion.blocks}):
        made = _content_queries(generation, items, generation.rows[places], modality, tables)
        if len(made):
            kinds[str(modality)] = made
    return kinds


def _content_queries(
    generation: Generation,
    items: ItemTable,
    rows: Int64[np.ndarray, " r"],
    modality: Modality,
    tables: Mapping[Block, VectorTable],
) -> Float32[np.ndarray, "q dim"]:
    """Queries by the first content of a modality of each item that has one."""
    stored = items.by_row(rows.tolist())
    fields = [stored[row].fields for row in rows.tolist() if row in stored]
    by_item: dict[int, dict[Space, np.ndarray]] = {}
    for block in (one for one in generation.fusion.blocks if one.modality == modality):
        owners, hashes = block_contents(block, fields)
        found, vectors = tables[block].fetch(hashes)
        for place in np.flatnonzero(found).tolist():
            by_item.setdefault(owners[place], {}).setdefault(block.space, vectors[place])
    made = [generation.fusion.query(modality, vectors, None) for _, vectors in sorted(by_item.items())]
    return np.stack(made) if made else np.empty((0, generation.fusion.dim), dtype=np.float32)


def _publish(layout: Layout, generation: Generation, choice: Trial, reporter: Reporter) -> int:
    recipe = recipe_like(generation.manifest, spaces_of(generation.fusion))
    made = build_generation(layout, replace(recipe, index=choice.spec), generation)
    warn_of(made, reporter)
    return made.number


def describe(trial: Trial) -> str:
    """Say what a trial measured, in one line."""
    search = " ".join(f"{name}={value}" for name, value in trial.spec.search.items())
    return (
        f"{trial.spec.factory}{f' ({search})' if search else ''}: recall {trial.recall:.3f}, "
        f"{trial.milliseconds:.2f} ms a query, {trial.memory_bytes / 1e6:,.0f} MB"
    )


def infeasible(tuning: Tuning, wanted: Requirement) -> str:
    """Say that no recipe meets the requirement, which one is nearest, and what it misses."""
    missed = " and ".join(tuning.nearest.misses(wanted))
    return f"no recipe meets the requirement; the nearest misses {missed}: {describe(tuning.nearest)}"


def _row(trial: Trial, tuning: Tuning, wanted: Requirement) -> dict[str, object]:
    missed = ", ".join(trial.misses(wanted))
    best = "on the Pareto front" if trial in tuning.pareto else ""
    return {
        "recipe": trial.spec.factory,
        "search": " ".join(f"{name}={value}" for name, value in trial.spec.search.items()),
        "recall": trial.recall,
        "ms a query": trial.milliseconds,
        "queries/s": trial.queries_per_second,
        "MB": trial.memory_bytes / 1e6,
        "build s": trial.build_seconds,
        "result": "chosen" if trial == tuning.choice else f"misses {missed}" if missed else best,
    }
