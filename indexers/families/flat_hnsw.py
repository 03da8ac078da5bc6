"""``Flat``, ``HNSW32,Flat`` and ``HNSW32,SQ8``: vectors compared one by one, or graphs over them.

``Flat`` is exact and has nothing to tune. Graphs (HNSW) over vectors, or over one byte per dimension, are fast and easy
to tune, slow to build, and take 32 links per vector beside the vector.
"""

from collections.abc import Mapping

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search

DEFAULT_EF_SEARCH = 64
"""Candidates that a walk keeps. FAISS's own 16 finds .954 of the ten nearest of 100,000 clustered vectors, 64 .999."""

FILTERED_EFFORT = 8
"""A filtered graph search has efSearch * FILTERED_EFFORT * n / allowed.

1 is enough for a random half of the rows, but rows that share a category share a region, and queries from elsewhere
then find .26 of their ten nearest; 8 finds .95 (200,000 clustered vectors).
"""

UPPER_LINKS = 11
"""Bytes per vector of the upper layers, offsets and levels."""

EXACT_SCALE = 200
"""At EXACT_SCALE * sqrt(n) allowed rows exact search and a filtered graph search cost the same (n = 20,000 to 200,000):
about 20 ns per allowed vector (128 dimensions, one core), and about 1.4 microseconds per unit of efSearch."""


class Flat(Family):
    """Exact search over stored vectors."""

    name = "Flat"
    examples: Mapping[str, Mapping[str, int]] = {"Flat": {}}
    exact_scale = float("inf")

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexFlat)

    def native(self, index: Native, search: Search) -> Native:
        return faiss.SearchParameters(sel=None if search.allowed is None else search.allowed.selector)

    def memory_bytes(self, index: Native, count: int) -> int:
        return count * 4 * int(index.d)

    def gpu_part(self, index: Native) -> Native:
        return index


class HNSW(Family):
    """Graphs over vectors or their codes."""

    name = "HNSW"
    examples: Mapping[str, Mapping[str, int]] = {"HNSW32,Flat": {"efSearch": 400}, "HNSW32,SQ8": {"efSearch": 400}}
    exact_scale = EXACT_SCALE

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexHNSW)

    def native(self, index: Native, search: Search) -> Native:
        candidates = search.effort["efSearch"]
        if search.allowed is None:
            return faiss.SearchParametersHNSW(efSearch=candidates)
        raised = int(candidates * FILTERED_EFFORT * search.allowed.vectors_per_allowed)
        return faiss.SearchParametersHNSW(efSearch=raised, sel=search.allowed.selector)

    def memory_bytes(self, index: Native, count: int) -> int:
        links = 4 * int(index.hnsw.nb_neighbors(0))
        return count * (int(self.vector_storage(index).code_size) + links + UPPER_LINKS)

    def parameters(self, index: Native) -> Mapping[str, int]:
        return {"efSearch": DEFAULT_EF_SEARCH}

    def vector_storage(self, index: Native) -> Native:
        return faiss.downcast_index(index.storage)
