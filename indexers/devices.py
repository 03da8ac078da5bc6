"""Import FAISS, and place indexes on the CPU or on GPUs."""

import functools
import importlib.metadata
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import faiss as _faiss
import numpy as np
from jaxtyping import Float32, Int64

from indexers.protocol import IndexersError

Native: TypeAlias = Any
"""An object of FAISS."""

# The type stubs that FAISS ships lack half of its classes and misdescribe some of the rest.
faiss: Native = _faiss

PACKAGES = ("faiss-gpu", "faiss-cpu", "faiss-gpu-cuvs")
"""Packages that all own the module `faiss` and overwrite each other's files."""


@functools.cache
def check_installation() -> None:
    """Raise IndexersError if more than one package owns the module `faiss`."""
    installed = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    owners = [name for name in PACKAGES if name in installed]
    if len(owners) > 1:
        raise IndexersError(
            f"{' and '.join(owners)} are installed together and overwrite each other's module faiss; one is allowed. "
            f"Uninstall them all, then install one: pip uninstall {' '.join(owners)}"
        )


THREADS: int = faiss.omp_get_max_threads()
"""The most that FAISS may use: the cores this process may run on, or OMP_NUM_THREADS."""

QUERIES_A_THREAD = 16
VECTORS_A_THREAD = 5_000
"""Below this, threads mostly wait: on two busy cores a graph of 300 vectors took 1 s with two, 10 ms with one."""

LARGEST_GPU_K = 2048
"""FAISS selects at most this many neighbours on a GPU."""


def gpu_count() -> int:
    """Return how many GPUs FAISS can use; 0 if its build or the machine has none."""
    return int(faiss.get_num_gpus())


def search_threads(queries: int) -> int:
    """Return how many threads a batch of queries uses: one for a few, as a second costs more than it gives."""
    return max(1, min(THREADS, queries // QUERIES_A_THREAD))


def build_threads(vectors: int) -> int:
    """Return how many threads to use for adding this many vectors."""
    return max(1, min(THREADS, vectors // VECTORS_A_THREAD))


class FaissThreads:
    """Let FAISS use `count` threads in the calling thread, for as long as the block lasts.

    A class, as a generator would cost a query two microseconds more.
    """

    __slots__ = ("_before", "_count")

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> None:
        # OpenMP keeps this number for each calling thread on its own, so concurrent searches do not disturb each other.
        self._before = faiss.omp_get_max_threads()
        if self._count != self._before:
            faiss.omp_set_num_threads(self._count)

    def __exit__(self, *failure: object) -> None:
        if self._count != self._before:
            faiss.omp_set_num_threads(self._before)


class GpuCopy:
    """An index on one or several GPUs, for unfiltered searches. Safe to use from several threads.

    With several GPUs it is replicated, and a batch of queries is split; or, as shards, its vectors are split.
    """

    def __init__(self, index: Native, devices: Sequence[int], *, shards: bool = False) -> None:
        """Copy a FAISS index to GPUs by their numbers. Raises IndexersError if FAISS does not see one of them."""
        absent = [device for device in devices if not 0 <= device < gpu_count()]
        if absent or not devices:
            raise IndexersError(
                f"GPUs {list(devices)} were given; FAISS sees {gpu_count()}. Use some of those, or the CPU."
            )
        self._resources = [faiss.StandardGpuResources() for _ in devices]
        if shards and len(devices) > 1:
            options = faiss.GpuMultipleClonerOptions()
            options.shard = True
            copies = [faiss.index_cpu_to_gpu_multiple_py(self._resources, index, options, list(devices))]
        else:
            placed = zip(self._resources, devices, strict=True)
            copies = [faiss.index_cpu_to_gpu(resources, device, index) for resources, device in placed]
        # A GPU's scratch memory serves one search at a time.
        self._copies = [(copy, threading.Lock()) for copy in copies]
        self._threads = ThreadPoolExecutor(len(copies))

    def search(
        self, queries: Float32[np.ndarray, "q dim"], k: int, params: Native = None
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Return FAISS's distances and positions: of a single query from a copy that is free, if one is."""
        # FAISS's own replicas refuse search parameters.
        parts = np.array_split(queries, min(len(self._copies), max(1, len(queries) // QUERIES_A_THREAD)))
        order = sorted(self._copies, key=lambda copy: copy[1].locked())
        work = [(*copy, part, k, params) for copy, part in zip(order, parts, strict=False)]
        found = (
            [_locked_search(*work[0])]
            if len(work) == 1
            else self._threads.map(lambda each: _locked_search(*each), work)
        )
        distances, positions = zip(*found, strict=True)
        return np.concatenate(distances), np.concatenate(positions)


def _locked_search(
    index: Native, lock: threading.Lock, queries: Float32[np.ndarray, "q dim"], k: int, params: Native
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    with lock:
        distances, positions = index.search(queries, k, params=params)
    return distances, positions
