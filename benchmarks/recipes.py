"""Every index recipe on the same vectors, beside raw FAISS: ``python -m benchmarks.recipes``.

200,000 x 384 unit vectors in 2,000 clusters, inner product, k = 10, one thread. For each recipe: seconds to build,
megabytes of the index, and the first setting of its ladder that finds .95 of what exact search finds, with its queries
a second in batches of 1,000 and one by one. The ratio is to FAISS's own Python call on the same index with the same
parameters, the two in turn, the best of several rounds each.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from benchmarks.report import WORK, arguments, show
from indexers import ExactIndex, FaissIndex, IndexSpec, build
from indexers.files import read_index_file

K = 10
TARGET = 0.95
BATCH, SINGLE = 1_000, 200

EFFORTS = [{"efSearch": ef} for ef in (16, 24, 32, 48, 64, 96, 128, 256)]
PROBES = [{"nprobe": n} for n in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)]
REFINED = [{"nprobe": n, "k_factor": f} for n in (4, 8, 16, 24, 32, 64) for f in (4, 8, 16)]
FACTORS = [{"k_factor": f} for f in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)]

LADDERS: dict[str, list[dict[str, int]]] = {
    "Flat": [{}],
    "HNSW32,Flat": EFFORTS,
    "HNSW32,SQ8": EFFORTS,
    "IVF1024,Flat": PROBES,
    "IVF,Flat": PROBES,
    "IVF1024,SQ8": PROBES,
    "IVF1024,PQ64,RFlat": REFINED,
    "IVF1024,PQ96x4fs,RFlat": REFINED,
    "IVF1024,PQ192x4fs,Refine(SQ8)": REFINED,
    "PQ96x4fs,RFlat": FACTORS,
    "PQ192x4fs,Refine(SQ8)": FACTORS,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What one recipe did; rates are queries a second, ours and raw."""

    seconds: float
    megabytes: float
    setting: Mapping[str, int]
    recall: float
    batch: tuple[float, float]
    single: tuple[float, float]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    count, rounds = (20_000, 2) if options.quick else (200_000, 7)
    faiss.omp_set_num_threads(1)
    vectors, queries = clustered(count)
    exact = ExactIndex.build(IndexSpec("Exact", "ip"), np.arange(count), vectors)
    truth = exact.search(queries, K).rows
    header = ("recipe", "build s", "MB", "setting", "recall", "batch q/s", "to raw", "single q/s", "to raw")
    table: list[tuple[object, ...]] = [header]
    figures: dict[str, float] = {}
    for factory, ladder in LADDERS.items():
        done = measured(factory, ladder, vectors, queries, truth, rounds)
        setting = " ".join(f"{name}={value}" for name, value in done.setting.items()) or "-"
        ratios = [ours / raw for ours, raw in (done.batch, done.single)]
        rates = (round(done.batch[0]), ratios[0], round(done.single[0]), ratios[1])
        table.append((factory, round(done.seconds, 1), round(done.megabytes), setting, done.recall, *rates))
        print(*table[-1], flush=True)
        figures |= {f"{factory} recall": done.recall, f"{factory} batch": done.batch[0]}
        figures |= {f"{factory} batch_to_raw": ratios[0], f"{factory} single_to_raw": ratios[1]}
    show(f"Index recipes, {count:,} x {vectors.shape[1]}, k = {K}, one thread", table, figures)


def clustered(count: int, dim: int = 384, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around random centres, a hundred each, and queries drawn alike."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 100, dim), dtype=np.float32)
    vectors = centres[rng.integers(len(centres), size=count + BATCH)]
    vectors += np.float32(0.6) * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:count], vectors[count:]


def measured(
    factory: str,
    ladder: Sequence[Mapping[str, int]],
    vectors: np.ndarray,
    queries: np.ndarray,
    truth: np.ndarray,
    rounds: int,
) -> Measured:
    """Build one recipe, climb its ladder to the target, and time it there beside raw FAISS."""
    started = time.process_time()
    index = build(IndexSpec(factory, "ip"), np.arange(len(vectors)), vectors)
    seconds = time.process_time() - started
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "recipe.index"
    digest = index.save(path)
    index = FaissIndex.from_file(read_index_file(path, digest))
    for setting in ladder:
        recall = recall_of(index.search(queries, K, search=setting).rows, truth)
        if recall >= TARGET:
            break
    raw = faiss.deserialize_index(np.array(read_index_file(path, digest).payload))
    params = native(raw, setting)
    batch = rates(
        rounds, BATCH, lambda: index.search(queries, K, search=setting), lambda: raw.search(queries, K, params=params)
    )
    ones = [queries[place : place + 1] for place in range(SINGLE)]
    single = rates(
        rounds,
        SINGLE,
        lambda: [index.search(one, K, search=setting) for one in ones],
        lambda: [raw.search(one, K, params=params) for one in ones],
    )
    return Measured(seconds, path.stat().st_size / 1e6, setting, recall, batch, single)


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours that were found."""
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(found, truth, strict=True)]))


def native(index: faiss.Index, setting: Mapping[str, int]) -> faiss.SearchParameters | None:
    """FAISS's own form of a setting."""
    if isinstance(index, faiss.IndexRefine):
        below = native(faiss.downcast_index(index.base_index), setting)
        return faiss.IndexRefineSearchParameters(k_factor=setting["k_factor"], base_index_params=below)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=setting["nprobe"])
    return faiss.SearchParametersHNSW(efSearch=setting["efSearch"]) if isinstance(index, faiss.IndexHNSW) else None


def rates(rounds: int, queries: int, ours: Callable[[], object], raw: Callable[[], object]) -> tuple[float, float]:
    """Queries a second of both, in turn, each by its best round; in CPU time, as the cores may be shared."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for place, run in enumerate((ours, raw)):
            started = time.process_time()
            run()
            best[place] = min(best[place], time.process_time() - started)
    return queries / best[0], queries / best[1]


if __name__ == "__main__":
    main()
