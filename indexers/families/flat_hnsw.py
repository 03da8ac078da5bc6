"""``Flat``, ``HNSW32,Flat`` and ``HNSW32,SQ8``: vectors compared one by one, or graphs over them.

``Flat`` is exact and has nothing to tune. Graphs (HNSW) over vectors, or over a byte a dimension, are fast and easy to
tune, slow to build, and take 32 links a vector beside the vector.
"""

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search

DEFAULT_EF_SEARCH = 64
"""Candidates that a walk keeps. FAISS's own 16 finds .954 of the ten nearest of 100,000 clustered vectors, 64 .999."""

FILTERED_EFFORT = 8
"""How much harder a filtered graph search works, times n / allowed.

1 is enough for a random half of the rows, but rows that share a category share a region, and queries from elsewhere
then find .26 of their ten nearest; 8 finds .95 (200,000 clustered vectors).
"""

UPPER_LINKS = 11
"""Bytes a vector of the few upper floors, offsets and levels."""

EXACT_SCALE = 200
"""Exact search costs about 20 ns an allowed vector (128 dimensions, one core), the graph about 1.4 microseconds a unit
of efSearch; with efSearch = 64 * FILTERED_EFFORT * n / allowed the two meet there (n = 20,000 to 200,000)."""


def _flat_parameters(index: Native, search: Search) -> Native:
    del index
    return faiss.SearchParameters(sel=None if search.among is None else search.among.selector)


FLAT = Family(
    name="Flat",
    examples={"Flat": {}},
    takes=lambda index: isinstance(index, faiss.IndexFlat),
    native=_flat_parameters,
    bytes_for=lambda index, count: count * 4 * int(index.d),
    gpu_part=lambda index: index,
    exact_scale=float("inf"),
)


def _graph_parameters(index: Native, search: Search) -> Native:
    del index
    candidates = search.effort["efSearch"]
    if search.among is None:
        return faiss.SearchParametersHNSW(efSearch=candidates)
    raised = int(candidates * FILTERED_EFFORT * search.among.scarcity)
    return faiss.SearchParametersHNSW(efSearch=raised, sel=search.among.selector)


def _codes(index: Native) -> Native:
    return faiss.downcast_index(index.storage)


def _bytes_for(index: Native, count: int) -> int:
    links = 4 * int(index.hnsw.nb_neighbors(0))
    return count * (int(_codes(index).code_size) + links + UPPER_LINKS)


HNSW = Family(
    name="HNSW",
    examples={"HNSW32,Flat": {"efSearch": 400}, "HNSW32,SQ8": {"efSearch": 400}},
    takes=lambda index: isinstance(index, faiss.IndexHNSW),
    native=_graph_parameters,
    bytes_for=_bytes_for,
    parameters=lambda _: {"efSearch": DEFAULT_EF_SEARCH},
    holder=_codes,
    exact_scale=EXACT_SCALE,
)
