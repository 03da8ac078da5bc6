"""Choose an index recipe by measuring: recall, speed, memory and build time, on sample queries."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from jaxtyping import Float, Float32, Int64

from indexers.protocol import EXACT, Index, IndexersError, IndexSpec, Metric
from indexers.recall import TARGET, RecallSample
from indexers.recipes import build

RECIPES = (
    "Flat",
    "HNSW32,Flat",
    "HNSW32,SQ8",
    "IVF,Flat",
    "IVF,SQ8",
    "IVF,PQ{quarter}x4fs,RFlat",
    "IVF,PQ{half}x4fs,Refine(SQ8)",
)
"""Factory strings that are tried; of four dimensions, or two, a code of four bits."""

STEPS: Mapping[str, Sequence[int]] = {
    "efSearch": (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
    "nprobe": (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "k_factor": (2, 4, 8, 16, 32),
}
"""Values of each search parameter that are tried, ascending."""

SINGLE_QUERIES = 100
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an index must do.

    Attributes:
        recall: Least share of the ten nearest by exact search that are found.
        memory_bytes: The most that it may take in memory, row numbers included; None for no limit.
        milliseconds: The most that one query may take (median); None for no limit.

    """

    recall: float = TARGET
    memory_bytes: int | None = None
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise IndexersError(f"a recall of {self.recall} was given; give a share above 0, at most 1.")
        for name in ("memory_bytes", "milliseconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise IndexersError(f"{name} is {value}; give a number above 0, or none for no limit.")


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe as it was measured, with the search parameters that are fastest at the required recall.

    Attributes:
        spec: Recipe and search parameters; the most effort that was tried where the recall is not reached.
        recall: Share of the ten nearest by exact search that it finds.
        milliseconds: Of one query, median.
        queries_per_second: In one batch.
        memory_bytes: What it takes in memory.
        build_seconds: What it took to build.

    """

    spec: IndexSpec
    recall: float
    milliseconds: float
    queries_per_second: float
    memory_bytes: int
    build_seconds: float

    def misses(self, wanted: Requirement) -> list[str]:
        """Which of "recall", "memory" and "latency" it does not meet."""
        return [
            name
            for name, missed in (
                ("recall", self.recall < wanted.recall),
                ("memory", wanted.memory_bytes is not None and self.memory_bytes > wanted.memory_bytes),
                ("latency", wanted.milliseconds is not None and self.milliseconds > wanted.milliseconds),
            )
            if missed
        ]


@dataclass(frozen=True, slots=True)
class Tuning:
    """All trials, in the order of `RECIPES`, and the one to take.

    Attributes:
        trials: Every recipe that could be built.
        choice: The one with the most queries per second of those that meet the requirement; None where none does.
        nearest: The choice, or else the trial that misses least: the fewest requirements, then the least recall.

    """

    trials: tuple[Trial, ...]
    choice: Trial | None
    nearest: Trial

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """Trials that no other one beats in recall, speed and memory at once."""
        return tuple(one for one in self.trials if not any(_dominates(other, one) for other in self.trials))


def tune(
    rows: Int64[np.ndarray, " n"],
    vectors: Float[np.ndarray, "n dim"],
    queries: Float32[np.ndarray, "q dim"],
    wanted: Requirement,
    metric: Metric = "ip",
    recipes: Sequence[str] = RECIPES,
    report: Callable[[Trial], None] = lambda _: None,
) -> Tuning:
    """Build each recipe, find its fastest search parameters at the required recall, and choose.

    Recipes that take more memory than is allowed are not built. Half of the queries choose the search parameters, the
    other half are what `Trial` reports: a parameter that fits its sample by chance does not look better than it is.

    Args:
        rows: Row numbers, ascending.
        vectors: Vectors by row, which may be a memory map.
        queries: At least two, like those that the index will answer.
        wanted: What the index must do.
        metric: How vectors are compared.
        recipes: Factory strings; ``{quarter}`` and ``{half}`` stand for these shares of the dimensions.
        report: Called with each trial as it is done.

    Raises IndexersError where no recipe fits into the memory, or there are fewer than two queries.

    """
    if len(queries) < 2:
        raise IndexersError(f"{len(queries)} queries were given; tuning needs two or more.")
    choosing, judging = (RecallSample.of_queries(rows, vectors, metric, queries[part::2]) for part in (0, 1))
    trials: list[Trial] = []
    smallest: int | None = None
    for spec in _specs(recipes, vectors.shape[1], metric):
        size = _memory_bytes(spec, vectors.shape[1], len(rows))
        smallest = size if smallest is None else min(size, smallest)
        if wanted.memory_bytes is None or size <= wanted.memory_bytes:
            trials.append(_tried(spec, size, choosing, judging, wanted.recall))
            report(trials[-1])
    if not trials:
        raise IndexersError(
            f"{wanted.memory_bytes or 0:,} bytes are allowed; the smallest index of {len(rows):,} vectors of "
            f"{vectors.shape[1]} dimensions takes {smallest or 0:,}. Allow that much, or give fewer dimensions."
        )
    fitting = [one for one in trials if not one.misses(wanted)]
    choice = max(fitting, key=lambda one: one.queries_per_second, default=None)
    nearest = choice or min(trials, key=lambda one: (len(one.misses(wanted)), -one.recall))
    return Tuning(tuple(trials), choice, nearest)


def _specs(recipes: Sequence[str], dim: int, metric: Metric) -> Iterator[IndexSpec]:
    for pattern in recipes:
        if dim % 4 and "{" in pattern:
            continue
        yield IndexSpec(pattern.format(quarter=dim // 4, half=dim // 2), metric)


def _memory_bytes(spec: IndexSpec, dim: int, count: int) -> int:
    if spec.factory == EXACT:
        return count * (4 * dim + 8)
    from indexers.faiss_recipe import memory_bytes  # noqa: PLC0415 - exact search works where FAISS is absent

    return memory_bytes(spec, dim, count)


def _tried(spec: IndexSpec, size: int, choosing: RecallSample, judging: RecallSample, recall: float) -> Trial:
    started = time.perf_counter()
    index = build(spec, choosing.rows, choosing.vectors)
    seconds = time.perf_counter() - started
    effort = min(
        _sufficient(index, choosing, recall),
        key=lambda one: _batch_seconds(index.with_effort(one), choosing.queries, choosing.k),
    )
    index = index.with_effort(effort) if effort else index
    return Trial(
        replace(spec, search=effort),
        judging.measure(index).recall,
        _median_milliseconds(index, judging.queries[:SINGLE_QUERIES], judging.k),
        len(judging.queries) / _batch_seconds(index, judging.queries, judging.k),
        size,
        seconds,
    )


def _sufficient(index: Index, sample: RecallSample, recall: float) -> list[dict[str, int]]:
    """For each setting of the other parameters, the least of the first one at which the recall is reached.

    Recall grows with each parameter, so the least is found by halving. Where no setting reaches it, the greatest.
    """
    names = sorted(index.effort, key=list(STEPS).index)
    if not names:
        return [{}]
    first, others = names[0], names[1:]
    found: list[dict[str, int]] = []
    for values in product(*(STEPS[name] for name in others)):
        fixed = dict(zip(others, values, strict=True))
        low, high = 0, len(STEPS[first])
        while low < high:
            middle = (low + high) // 2
            enough = sample.measure(index, {first: STEPS[first][middle], **fixed}).recall >= recall
            low, high = (low, middle) if enough else (middle + 1, high)
        if low < len(STEPS[first]):
            found.append({first: STEPS[first][low], **fixed})
    return found or [{name: STEPS[name][-1] for name in names}]


def _batch_seconds(index: Index, queries: Float32[np.ndarray, "q dim"], k: int) -> float:
    return min(_seconds(lambda: index.search(queries, k)) for _ in range(ROUNDS))


def _median_milliseconds(index: Index, queries: Float32[np.ndarray, "q dim"], k: int) -> float:
    index.search(queries[:1], k)  # the first search sets up what later ones use
    return 1e3 * float(np.median([_seconds(partial(index.search, one[None], k)) for one in queries]))


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _dominates(one: Trial, other: Trial) -> bool:
    ours = (one.recall, one.queries_per_second, -one.memory_bytes)
    theirs = (other.recall, other.queries_per_second, -other.memory_bytes)
    return all(a >= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs
