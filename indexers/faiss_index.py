"""An immutable index that FAISS searches: maps FAISS positions to row numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from indexers.devices import FaissThreads, GpuCopy, Native, build_threads, check_installation, faiss, search_threads
from indexers.faiss_recipe import AllowedPositions, Candidates, Family, Search, new_index, require_family, search_effort
from indexers.faiss_search import fill_short_results, search_family, search_on_gpu, stored_vectors
from indexers.files import FAISS_KIND, Header, IndexFile, Write, write_index_file
from indexers.protocol import IndexersError, IndexFileError, IndexSpec, Neighbours
from indexers.vectors import as_vectors, check_k, chunk_rows, positions_in_chunks, positions_of, sorted_vectors, top_k

TRAINING_VECTORS = 65_536
TRAINING_A_CENTROID = 64
TRAINING_BYTES = 1 << 30
SEED = 20_240_917

BLAS_QUERIES = 20
"""From this batch size on, and always on a GPU, FAISS expands the square of a difference, which loses digits."""

KEPT_SEARCHES = 64


@dataclass(frozen=True, eq=False)
class FaissIndex:
    """Row numbers and vectors in a FAISS index (see `indexers.protocol.Index`).

    Rows are ascending, and `native` holds their vectors in this order. Vectors of a loaded index are read from the
    mapped `file` for as long as it lives. `gpu` is a copy for unfiltered searches.
    """

    spec: IndexSpec
    rows: Int64[np.ndarray, " n"]
    native: Native
    file: IndexFile | None = None
    gpu: GpuCopy | None = None
    _searches: dict[str, Search] = field(default_factory=dict, init=False)

    @cached_property
    def family(self) -> Family:
        """The family of its recipe."""
        return require_family(self.native)

    @classmethod
    def build(
        cls, spec: IndexSpec, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]
    ) -> "FaissIndex":
        """Build it from n row numbers and (n, dim) vectors, which may be a memory map larger than memory.

        The order of the rows changes nothing, and the same input gives the same index, byte for byte. Raises as
        `indexers.build`.
        """
        check_installation()
        ascending, dim, read = sorted_vectors(rows, vectors, spec.metric)
        count = len(ascending)
        index = new_index(spec, dim, count)
        with FaissThreads(build_threads(count)):
            if not index.is_trained and count:
                sample = np.random.default_rng(SEED).permutation(count)[: _training_vectors(index)]
                index.train(read(np.sort(sample)))
            for positions in positions_in_chunks(count, dim):
                index.add(read(positions))
        require_family(index).finish(index)
        return cls(spec, ascending, index)

    @classmethod
    def from_file(cls, file: IndexFile) -> "FaissIndex":
        """Open a saved index, its vectors mapped from the file. Raises IndexFileError if FAISS cannot read it."""
        check_installation()
        try:
            reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(file.payload), file.payload.size)
            index = faiss.read_index(reader)
        except RuntimeError as error:
            raise IndexFileError(f"{file.path} holds no index that FAISS can read. Build the index again.") from error
        if (index.d, index.ntotal) != (file.header.dim, file.header.count):
            raise IndexFileError(f"{file.path} contradicts its own header. Build the index again.")
        require_family(index)
        return cls(file.header.spec, file.rows, index, file=file)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.native.d)

    @property
    def effort(self) -> Mapping[str, int]:
        """Search parameters in use: those of the recipe, or the family's defaults."""
        return search_effort(self.family, self.native, self.spec.search)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.rows)

    def with_effort(self, search: Mapping[str, int]) -> "FaissIndex":
        """Return the same index with a recipe of other search parameters. Raises IndexersError for unknown ones."""
        search_effort(self.family, self.native, search)
        return replace(self, spec=replace(self.spec, search=dict(search)))

    def on_gpu(self, devices: Sequence[int] = (0,), *, shards: bool = False) -> "FaissIndex":
        """Return the same index with a copy on GPUs for unfiltered searches; filtered ones stay on the CPU.

        With `shards` the vectors are split among the GPUs, rather than kept whole on each. Raises IndexersError for a
        GPU that FAISS does not see, or a recipe that no GPU can search.
        """
        part = self.family.gpu_part(self.native)
        if part is None:
            raise IndexersError(
                f"{self.spec.factory!r} stays on the CPU; allowed on a GPU are Flat, IVF1024,Flat and IVF1024,PQ64 "
                "with a refinement (other numbers too)."
            )
        return replace(self, gpu=GpuCopy(part, devices, shards=shards))

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query (see `Index.search`)."""
        check_k(k)
        prepared = as_vectors(queries, self.dim, self.spec.metric, "queries")
        positions = None if allowed is None else positions_of(self.rows, allowed)
        if positions is not None and len(positions) == len(self):
            positions = None
        reachable = min(k, len(self) if positions is None else len(positions))
        wanted = self._search_for(reachable, search or {})
        if reachable == 0 or len(prepared) == 0:
            nothing = np.empty((len(prepared), 0))
            return top_k(nothing.astype(np.int64), nothing.astype(np.float32), k)
        if positions is not None:
            wanted = Search(reachable, wanted.effort, AllowedPositions(positions, len(self)))
        with FaissThreads(search_threads(len(prepared))):
            distances, found = self._find(prepared, wanted)
            expanded = self.gpu is not None or len(prepared) >= BLAS_QUERIES
            if self.spec.metric == "l2" and expanded:
                distances = self._exact_distances(prepared, distances, found)
        scores = -np.sqrt(np.maximum(distances, 0)) if self.spec.metric == "l2" else distances
        return top_k(self.rows.take(found), scores, k)

    def _search_for(self, k: int, search: Mapping[str, int]) -> Search:
        """Return an unfiltered search, cached: making FAISS's parameters takes a noticeable part of a query's time."""
        key = f"{k} {search}"
        wanted = self._searches.get(key)
        if wanted is None:
            effort = search_effort(self.family, self.native, {**self.spec.search, **search})
            wanted = Search(k, effort)
            if k:
                wanted = replace(wanted, native=self.family.native(self.native, wanted))
            if len(self._searches) >= KEPT_SEARCHES:
                self._searches.clear()
            self._searches[key] = wanted
        return wanted

    def _find(self, queries: Float32[np.ndarray, "q dim"], wanted: Search) -> Candidates:
        if wanted.allowed is None and self.gpu is not None:
            found = search_on_gpu(self.family, self.native, self.gpu, queries, wanted)
            if found is not None:
                return fill_short_results(self.family, self.native, queries, wanted, found)
        return search_family(self.family, self.native, queries, wanted)

    def _exact_distances(
        self,
        queries: Float32[np.ndarray, "q dim"],
        distances: Float32[np.ndarray, "q k"],
        found: Int64[np.ndarray, "q k"],
    ) -> Float32[np.ndarray, "q k"]:
        storage = self.family.vector_storage(self.native)
        step = max(1, chunk_rows(self.dim) // found.shape[1])
        for start in range(0, len(queries), step):
            part = found[start : start + step]
            vectors = stored_vectors(storage, part.reshape(-1)).reshape(*part.shape, self.dim)
            distances[start : start + step] = np.square(vectors - queries[start : start + step, None]).sum(axis=2)
        return distances

    def save(self, path: Path) -> str:
        """Write it to one file, atomically. Returns the SHA-256 of the file, in hex."""

        def payload(write: Write) -> None:
            faiss.write_index(self.native, faiss.PyCallbackIOWriter(write))

        return write_index_file(path, Header(FAISS_KIND, self.spec, self.dim, len(self)), self.rows, payload)


def _training_vectors(index: Native) -> int:
    """Return how many vectors it is trained on: enough for each centroid, within a gigabyte."""
    wanted = max(TRAINING_VECTORS, TRAINING_A_CENTROID * require_family(index).least_training_vectors(index))
    return min(wanted, TRAINING_BYTES // (4 * int(index.d)))
