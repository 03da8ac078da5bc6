"""An immutable segment searched by FAISS. Knows positions and row numbers; nothing of what they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from indexers.devices import GpuCopy, Native, build_threads, check_installation, faiss, search_threads, using_threads
from indexers.faiss_recipe import Among, Found, Search, effort_of, family_for, new_index
from indexers.faiss_search import completed, find, find_on_gpu, stored_vectors
from indexers.files import FAISS_KIND, Header, IndexFile, Write, read_index_file, write_index_file
from indexers.protocol import BadVectorsError, IndexersError, IndexFileError, IndexSpec, Neighbours
from indexers.vectors import as_vectors, check_k, chunk_rows, places_of, positions_of, ranked, sorted_rows

TRAINING_VECTORS = 65_536
TRAINING_A_CENTROID = 64
TRAINING_BYTES = 1 << 30
SEED = 20_240_917

BLAS_QUERIES = 20
"""From this batch size on, and always on a GPU, FAISS expands the square of a difference, which loses digits."""

KEPT_SEARCHES = 64


class FaissIndex:
    """Row numbers and vectors in a FAISS index (see `indexers.protocol.Index`)."""

    def __init__(
        self,
        spec: IndexSpec,
        rows: Int64[np.ndarray, " n"],
        index: Native,
        *,
        file: IndexFile | None = None,
        gpu: GpuCopy | None = None,
    ) -> None:
        """Take over a FAISS index whose positions stand for ascending row numbers; `build` and `load` call this."""
        self._spec = spec
        self._rows = rows
        self._index = index
        # A loaded index reads its vectors out of the mapped file for as long as it lives.
        self._file = file
        self._gpu = gpu
        self._family = family_for(index)
        self._searches: dict[str, Search] = {}

    @classmethod
    def build(
        cls, spec: IndexSpec, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]
    ) -> "FaissIndex":
        """Build it from n row numbers and (n, dim) vectors, which may be a memory map larger than memory.

        The order of the rows changes nothing, and the same input gives the same index, byte for byte.

        Raises:
            BadVectorsError: Vectors or row numbers that cannot be used.
            IndexersError: A recipe that is unknown here.

        """
        check_installation()
        if vectors.ndim != 2 or vectors.shape[1] < 1:
            raise BadVectorsError(f"vectors have shape {vectors.shape}; allowed is (n, dim) with dim at least 1.")
        ascending, order = sorted_rows(rows, len(vectors))
        dim = int(vectors.shape[1])
        index = new_index(spec, dim, len(order))
        with using_threads(build_threads(len(order))):
            if not index.is_trained and len(order):
                sample = np.random.default_rng(SEED).permutation(len(order))[: _training_vectors(index)]
                index.train(as_vectors(vectors[order[np.sort(sample)]], dim, spec.metric))
            step = chunk_rows(dim)
            for start in range(0, len(order), step):
                index.add(as_vectors(vectors[order[start : start + step]], dim, spec.metric))
        family_for(index).finish(index)
        return cls(spec, ascending, index)

    @classmethod
    def load(cls, path: Path, expected_sha256: str | None = None) -> "FaissIndex":
        """Open a saved index; its vectors are mapped from the file, not read.

        Raises:
            IndexFileError: Missing, of another checksum, kind or format version, truncated or malformed.

        """
        return cls.opened(read_index_file(path, expected_sha256))

    @classmethod
    def opened(cls, file: IndexFile) -> "FaissIndex":
        """Take the index out of a file whose checksums hold. Raises IndexFileError if it is of another kind."""
        check_installation()
        file.require(FAISS_KIND)
        try:
            reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(file.payload), file.payload.size)
            index = faiss.read_index(reader)
        except RuntimeError as error:
            raise IndexFileError(f"{file.path} holds no index that FAISS can read. Build the index again.") from error
        if (index.d, index.ntotal) != (file.header.dim, file.header.count):
            raise IndexFileError(f"{file.path} contradicts its own header. Build the index again.")
        return cls(file.header.spec, file.rows, index, file=file)

    @property
    def spec(self) -> IndexSpec:
        """The recipe it was built from."""
        return self._spec

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Row numbers held, ascending."""
        return self._rows

    @property
    def effort(self) -> Mapping[str, int]:
        """Search parameters in use: those of the recipe, or the family's defaults."""
        return effort_of(self._family, self._index, self._spec.search)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._rows)

    def with_effort(self, search: Mapping[str, int]) -> "FaissIndex":
        """Return the same index with a recipe of other search parameters. Raises IndexersError for unknown ones."""
        effort_of(self._family, self._index, search)
        spec = replace(self._spec, search=dict(search))
        return type(self)(spec, self._rows, self._index, file=self._file, gpu=self._gpu)

    def on_gpu(self, devices: Sequence[int] = (0,), *, shards: bool = False) -> "FaissIndex":
        """Return the same index with a copy on GPUs for unfiltered searches; filtered ones stay on the CPU.

        Args:
            devices: Numbers of the GPUs.
            shards: Share the vectors out among them, rather than keep a whole copy on each.

        Raises:
            IndexersError: A GPU that FAISS does not see, or a recipe that no GPU can search.

        """
        part = self._family.gpu_part(self._index)
        if part is None:
            raise IndexersError(
                f"{self.spec.factory!r} stays on the CPU; allowed on a GPU are Flat, IVF1024,Flat and IVF1024,PQ64 "
                "with a refinement (other numbers too)."
            )
        gpu = GpuCopy(part, devices, shards=shards)
        return type(self)(self._spec, self._rows, self._index, file=self._file, gpu=gpu)

    def search(
        self,
        queries: Shaped[np.ndarray, "..."],
        k: int,
        *,
        allowed: Shaped[np.ndarray, "..."] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query.

        Args:
            queries: (q, dim) finite real numbers.
            k: Neighbours per query; where fewer rows exist, row -1 and score -inf fill up.
            allowed: Row numbers to search among; unknown ones are ignored. Few are searched exactly.
            search: Search parameters for this call alone, over those of the recipe.

        Raises:
            BadVectorsError: Queries of another length, kind or not finite; k below 1.
            IndexersError: A search parameter that the recipe does not have.

        """
        check_k(k)
        prepared = as_vectors(queries, self.dim, self._spec.metric, "queries")
        positions = None if allowed is None else positions_of(self._rows, allowed)
        if positions is not None and len(positions) == len(self):
            positions = None
        reachable = min(k, len(self) if positions is None else len(positions))
        asked = self._asked(reachable, search or {})
        if reachable == 0 or len(prepared) == 0:
            nothing = np.empty((len(prepared), 0))
            return ranked(nothing.astype(np.int64), nothing.astype(np.float32), k)
        if positions is not None:
            asked = Search(reachable, asked.effort, Among(positions, len(self)))
        with using_threads(search_threads(len(prepared))):
            distances, found = self._find(prepared, asked)
            expanded = self._gpu is not None or len(prepared) >= BLAS_QUERIES
            if self._spec.metric == "l2" and expanded:
                distances = self._exact_distances(prepared, distances, found)
        return self._answer(distances, found, k)

    def vectors_of(self, rows: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "n dim"]:
        """Return vectors by row number as this index holds them: prepared, and decoded where it holds codes.

        Raises:
            BadVectorsError: A row number that it does not hold.

        """
        return stored_vectors(self._family.holder(self._index), places_of(self._rows, rows))

    def _asked(self, k: int, search: Mapping[str, int]) -> Search:
        """Return an unfiltered search, kept for the next: making FAISS's parameters costs a query some of its time."""
        key = f"{k} {search}"
        asked = self._searches.get(key)
        if asked is None:
            effort = effort_of(self._family, self._index, {**self._spec.search, **search})
            asked = Search(k, effort)
            if k:
                asked = replace(asked, native=self._family.native(self._index, asked))
            if len(self._searches) >= KEPT_SEARCHES:
                self._searches = {}
            self._searches[key] = asked
        return asked

    def _find(self, queries: Float32[np.ndarray, "q dim"], asked: Search) -> Found:
        if asked.among is None and self._gpu is not None:
            found = find_on_gpu(self._family, self._index, self._gpu, queries, asked)
            if found is not None:
                return completed(self._family, self._index, queries, asked, found)
        return find(self._family, self._index, queries, asked)

    def _exact_distances(
        self,
        queries: Float32[np.ndarray, "q dim"],
        distances: Float32[np.ndarray, "q k"],
        found: Int64[np.ndarray, "q k"],
    ) -> Float32[np.ndarray, "q k"]:
        holder = self._family.holder(self._index)
        step = max(1, chunk_rows(self.dim) // found.shape[1])
        for start in range(0, len(queries), step):
            part = found[start : start + step]
            vectors = stored_vectors(holder, part.reshape(-1)).reshape(*part.shape, self.dim)
            distances[start : start + step] = np.square(vectors - queries[start : start + step, None]).sum(axis=2)
        return distances

    def _answer(self, distances: Float32[np.ndarray, "q m"], found: Int64[np.ndarray, "q m"], k: int) -> Neighbours:
        scores = -np.sqrt(np.maximum(distances, 0)) if self._spec.metric == "l2" else distances
        return ranked(self._rows.take(found), scores, k)

    def save(self, path: Path) -> str:
        """Write it to one file, atomically. Returns the SHA-256 of the file, in hex."""

        def payload(write: Write) -> None:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(write))

        return write_index_file(path, Header(FAISS_KIND, self._spec, self.dim, len(self)), self._rows, payload)


def _training_vectors(index: Native) -> int:
    """Return how many vectors it is trained on: enough for each centroid, within a gigabyte."""
    wanted = max(TRAINING_VECTORS, TRAINING_A_CENTROID * family_for(index).least(index))
    return min(wanted, TRAINING_BYTES // (4 * int(index.d)))
