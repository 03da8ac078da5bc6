"""Choosing, building and opening an index without knowing its class."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from indexers.files import EXACT_KIND, read_index_file
from indexers.protocol import EXACT, Index, IndexersError, IndexSpec, Metric

EXACT_BELOW = 50_000

FASTEST_FIRST: dict[str, dict[str, int]] = {
    "HNSW32,Flat": {"efSearch": 64},
    "IVF,PQ{quarter}x4fs,RFlat": {},
    "HNSW32,SQ8": {"efSearch": 64},
    "IVF,PQ{half}x4fs,Refine(SQ8)": {},
    "IVF,SQ8": {},
}
"""By queries per second at recall@10 = .95 (200,000 clustered vectors); each needs less memory than the one before.

A code of four bits stands for four values under full vectors, and for two where the refinement is coarse itself.
"""


def default_spec(n: int, dim: int, metric: Metric, memory_bytes: int | None = None) -> IndexSpec:
    """Return a recipe for n vectors: exact below 50,000, else the fastest that fits `memory_bytes`, if that is given.

    Raises IndexersError if no recipe known here fits.
    """
    if n < EXACT_BELOW:
        return IndexSpec("Flat", metric)
    from indexers import faiss_recipe  # noqa: PLC0415 - exact search works where FAISS is absent

    sizes: dict[str, int] = {}
    for pattern, search in FASTEST_FIRST.items():
        if "PQ" in pattern and dim % 4:
            continue
        factory = pattern.format(quarter=dim // 4, half=dim // 2)
        spec = IndexSpec(factory, metric, search)
        sizes[factory] = faiss_recipe.memory_bytes(spec, dim, n)
        if memory_bytes is None or sizes[factory] <= memory_bytes:
            return spec
    raise IndexersError(
        f"{memory_bytes:,} bytes are allowed; the smallest index of {n:,} vectors of {dim} dimensions takes "
        f"{min(sizes.values()):,}. Allow that much, or give fewer dimensions."
    )


def check_spec(spec: IndexSpec, dim: int) -> None:
    """Raise IndexersError if `build` could not use a recipe for vectors of a length, however many there are."""
    if spec.factory == EXACT:
        return
    from indexers import faiss_recipe  # noqa: PLC0415 - exact search works where FAISS is absent

    faiss_recipe.new_index(spec, dim, 0)


def build(spec: IndexSpec, rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."]) -> Index:
    """Build the index of a recipe: a FAISS factory string, or ``Exact`` for exact search without FAISS.

    `rows` are n row numbers, each once, in any order; `vectors` (n, dim) finite real numbers, which may be a memory map
    larger than memory. Raises BadVectorsError for those that cannot be used, IndexersError for an unknown recipe.
    """
    if spec.factory == EXACT:
        from indexers.exact import ExactIndex  # noqa: PLC0415 - FAISS works where torch is not loaded

        return ExactIndex.build(spec, rows, vectors)
    from indexers.faiss_index import FaissIndex  # noqa: PLC0415 - exact search works where FAISS is absent

    return FaissIndex.build(spec, rows, vectors)


def load(path: Path, expected_sha256: str | None = None) -> Index:
    """Open a saved index of any kind; a flat one is placed on a GPU where there is one.

    Raises IndexFileError if it is damaged or of another format version.
    """
    file = read_index_file(path, expected_sha256)
    if file.header.kind == EXACT_KIND:
        from indexers.exact import ExactIndex  # noqa: PLC0415 - as above

        return ExactIndex.from_file(file)
    from indexers.devices import gpu_count  # noqa: PLC0415 - as above
    from indexers.faiss_index import FaissIndex  # noqa: PLC0415 - as above

    index = FaissIndex.from_file(file)
    return index.on_gpu() if index.spec.factory == "Flat" and gpu_count() else index
