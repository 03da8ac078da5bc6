"""What FAISS runs on: GPUs and threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32, Int64

from indexers.faiss_module import Native, faiss
from indexers.types import IndexersError

__all__ = ["GpuCopy", "build_threads", "gpu_count", "search_threads", "using_threads"]

THREADS: int = faiss.omp_get_max_threads()
"""The most that FAISS may use: the cores this process may run on, or OMP_NUM_THREADS."""

QUERIES_A_THREAD = 16
VECTORS_A_THREAD = 5_000
"""Below this, threads mostly wait: on two busy cores a graph of 300 vectors took 1 s with two, 10 ms with one."""

LARGEST_GPU_K = 2048
"""FAISS selects at most this many neighbours on a GPU."""


def gpu_count() -> int:
    """Return how many GPUs FAISS can use; 0 where its build or the machine has none."""
    return int(faiss.get_num_gpus())


def search_threads(queries: int) -> int:
    """Return how many threads a batch of queries uses: one for a few, as a second costs more than it gives."""
    return max(1, min(THREADS, queries // QUERIES_A_THREAD))


def build_threads(vectors: int) -> int:
    """Return how many threads it takes to add so many vectors."""
    return max(1, min(THREADS, vectors // VECTORS_A_THREAD))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let FAISS use `count` threads in the calling thread, for as long as the block lasts."""
    # OpenMP keeps this number for each calling thread on its own, so concurrent searches do not disturb each other.
    before = faiss.omp_get_max_threads()
    if count == before:
        yield
        return
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class GpuCopy:
    """A copy of a flat index on one GPU, for unfiltered searches. Safe to use from several threads."""

    def __init__(self, index: Native, device: int) -> None:
        if not 0 <= device < gpu_count():
            raise IndexersError(f"GPU {device} was asked for; FAISS sees {gpu_count()}. Use one of those, or the CPU.")
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, device, index)
        # The resources' scratch memory serves one search at a time.
        self._lock = threading.Lock()

    def takes(self, k: int) -> bool:
        """Tell whether the GPU can select k neighbours."""
        return k <= LARGEST_GPU_K

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Return FAISS's distances and positions."""
        with self._lock:
            distances, positions = self._index.search(queries, k)
        return distances, positions
