"""What the FAISS recipes differ in: making them, their search parameters, and exact search among some of their vectors.

A new recipe is a branch in `search_parameters` and, where its vectors are not flat codes, one in `search_among`.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int64

from indexers.faiss_module import Native, faiss
from indexers.types import IndexersError, IndexSpec
from indexers.vectors import chunk_rows

__all__ = ["DEFAULT_EF_SEARCH", "codes_of", "new_index", "search_among", "search_parameters"]

DEFAULT_EF_SEARCH = 64
"""FAISS's own default of 16 finds .954 of the ten nearest of 100,000 clustered vectors; 64 finds .999."""

Found = tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]
"""FAISS's distances (squared Euclidean, or inner product) and positions."""


def new_index(spec: IndexSpec, dim: int) -> Native:
    """Return an empty FAISS index of a recipe. Raises IndexersError for a recipe that is unknown here."""
    metric = faiss.METRIC_L2 if spec.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(dim, spec.factory, metric)
    except RuntimeError as error:
        raise IndexersError(f"FAISS cannot make {spec.factory!r} for {dim} dimensions. {_allowed()}") from error
    if not isinstance(index, faiss.IndexFlat | faiss.IndexHNSW):
        raise IndexersError(f"{spec.factory!r} was asked for. {_allowed()}")
    search_parameters(index, spec.search, None)
    return index


def _allowed() -> str:
    return "Allowed are Flat, HNSW32,Flat and HNSW32,SQ8 (32 may be another number of links)."


def search_parameters(index: Native, effort: Mapping[str, int], selector: Native, raised: float = 1.0) -> Native:
    """Return the parameters that travel with one search.

    Args:
        index: The FAISS index that will be searched.
        effort: Search parameters by name; a flat index has nothing to tune and ignores them.
        selector: FAISS selector of allowed positions, or None.
        raised: How many times harder than `effort` says to search.

    Raises:
        IndexersError: The recipe has no such parameter, or its value is not a positive whole number.

    """
    if isinstance(index, faiss.IndexFlat):
        return faiss.SearchParameters(sel=selector)
    for name, value in effort.items():
        if name != "efSearch" or not isinstance(value, int | np.integer) or value < 1:
            raise IndexersError(f"search parameter {name}={value!r} was given; HNSW takes efSearch, 1 or more.")
    ef_search = int(effort.get("efSearch", DEFAULT_EF_SEARCH) * raised)
    return faiss.SearchParametersHNSW(efSearch=ef_search, sel=selector)


def codes_of(index: Native) -> Native:
    """Return the flat-codes index that holds the vectors: the index itself, or the one below its graph."""
    return faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index


def search_among(
    index: Native, queries: Float32[np.ndarray, "q dim"], k: int, positions: Int64[np.ndarray, "p"]
) -> Found:
    """Search exactly among ascending positions, by the vectors as stored. Needs k <= p."""
    storage = codes_of(index)
    if isinstance(storage, faiss.IndexFlat):
        selector = faiss.IDSelectorArray(positions)
        distances, found = storage.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return distances, found
    return _search_decoded(storage, queries, k, positions)


def _search_decoded(
    storage: Native, queries: Float32[np.ndarray, "q dim"], k: int, positions: Int64[np.ndarray, "p"]
) -> Found:
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.ntotal * storage.code_size)
    codes = codes.reshape(storage.ntotal, storage.code_size)
    sign = 1 if storage.metric_type == faiss.METRIC_L2 else -1
    distances = np.empty((len(queries), 0), dtype=np.float32)
    best = np.empty((len(queries), 0), dtype=np.int64)
    step = chunk_rows(storage.d)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        near, places = faiss.knn(queries, storage.sa_decode(codes[part]), min(k, len(part)), storage.metric_type)
        distances = np.concatenate([distances, near], axis=1)
        best = np.concatenate([best, part[places]], axis=1)
        keep = np.lexsort((best, sign * distances), axis=-1)[:, :k]
        distances, best = np.take_along_axis(distances, keep, 1), np.take_along_axis(best, keep, 1)
    return distances, best
