"""Search of a FAISS index: plain, exact over few allowed rows, with a selector, or by over-fetching."""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int64

from indexers.devices import LARGEST_GPU_K, GpuCopy, Native, faiss
from indexers.faiss_recipe import AllowedPositions, Candidates, Family, Search
from indexers.vectors import chunk_rows


def stored_vectors(storage: Native, positions: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, "p dim"]:
    """Return vectors by position, decoded if they are stored as codes."""
    if not isinstance(storage, faiss.IndexFlatCodes):
        return storage.reconstruct_batch(positions)
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.ntotal * storage.code_size)
    chosen = codes.reshape(storage.ntotal, storage.code_size)[positions]
    if isinstance(storage, faiss.IndexFlat):
        return chosen.view(np.float32)
    return storage.sa_decode(chosen)


def search_exactly(
    storage: Native, queries: Float32[np.ndarray, "q dim"], k: int, positions: Int64[np.ndarray, " p"]
) -> Candidates:
    """Search exactly among ascending positions, by the stored vectors. Needs k <= p."""
    if isinstance(storage, faiss.IndexFlat):
        selector = faiss.IDSelectorArray(positions)
        distances, found = storage.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return distances, found
    sign = 1 if storage.metric_type == faiss.METRIC_L2 else -1
    distances = np.empty((len(queries), 0), dtype=np.float32)
    best = np.empty((len(queries), 0), dtype=np.int64)
    step = chunk_rows(storage.d)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        near, places = faiss.knn(queries, stored_vectors(storage, part), min(k, len(part)), storage.metric_type)
        distances = np.concatenate([distances, near], axis=1)
        best = np.concatenate([best, part[places]], axis=1)
        keep = np.lexsort((best, sign * distances), axis=-1)[:, :k]
        distances, best = np.take_along_axis(distances, keep, 1), np.take_along_axis(best, keep, 1)
    return distances, best


def rescore(
    storage: Native, queries: Float32[np.ndarray, "q dim"], k: int, candidates: Int64[np.ndarray, "q m"]
) -> Candidates:
    """Return the k best of candidate positions, scored by the stored vectors; -1 stands for none."""
    distances = np.empty((len(queries), k), dtype=np.float32)
    best = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, chunk_rows(storage.d) // candidates.shape[1])
    nearest_first = storage.metric_type == faiss.METRIC_L2
    for start in range(0, len(queries), step):
        part = candidates[start : start + step]
        vectors = stored_vectors(storage, np.maximum(part, 0).reshape(-1)).reshape(*part.shape, storage.d)
        some = queries[start : start + step, None]
        cost = np.square(vectors - some).sum(axis=2) if nearest_first else -(vectors * some).sum(axis=2)
        cost = np.where(part < 0, np.float32(np.inf), cost)
        keep = np.lexsort((part, cost), axis=-1)[:, :k]
        cost = np.take_along_axis(cost, keep, axis=1)
        distances[start : start + step] = cost if nearest_first else -cost
        best[start : start + step] = np.take_along_axis(part, keep, axis=1)
    return distances, best


OVERFETCH = 2
"""Factor on the candidates of an index that takes no selector; queries that still lack hits are searched exactly."""


def search_family(family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search) -> Candidates:
    """Return the k best positions of each query. Needs k <= the vectors, or those allowed."""
    allowed = search.allowed
    if allowed is None:
        found = _searched(family, index, queries, search)
    elif len(allowed.positions) <= family.exact_scale * math.sqrt(allowed.count):
        return search_exactly(family.vector_storage(index), queries, search.k, allowed.positions)
    elif family.takes_selector(index):
        found = _searched(family, index, queries, search)
    else:
        found = _without_selector(family, index, queries, search, allowed)
    return fill_short_results(family, index, queries, search, found)


def fill_short_results(
    family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search, found: Candidates
) -> Candidates:
    """Search the queries exactly, in place, that have fewer than k results."""
    allowed = search.allowed
    # A graph may hold vectors that no link leads to, and lists may hold too few; FAISS puts what is missing last.
    if (found[1][0, -1] if len(queries) == 1 else found[1][:, -1].min()) < 0:
        short = np.flatnonzero((found[1] < 0).any(axis=1))
        everything = np.arange(index.ntotal) if allowed is None else allowed.positions
        storage = family.vector_storage(index)
        found[0][short], found[1][short] = search_exactly(storage, queries[short], search.k, everything)
    return found


def search_on_gpu(
    family: Family, index: Native, gpu: GpuCopy, queries: Float32[np.ndarray, "q dim"], search: Search
) -> Candidates | None:
    """Return the k best positions of each query without a filter; None if a GPU cannot select so many.

    If the GPU holds only the coarse index, its candidates are scored again on the CPU.
    """
    params = family.native(index, search) if search.native is None else search.native
    if isinstance(params, faiss.IndexRefineSearchParameters):
        wanted = search.k * int(params.k_factor)
        if wanted > LARGEST_GPU_K:
            return None
        candidates = gpu.search(queries, wanted, params.base_index_params)[1]
        return rescore(family.vector_storage(index), queries, search.k, candidates)
    return gpu.search(queries, search.k, params if search.effort else None) if search.k <= LARGEST_GPU_K else None


def _searched(family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search) -> Candidates:
    params = family.native(index, search) if search.native is None else search.native
    distances, positions = index.search(queries, search.k, params=params)
    return distances, positions


def _without_selector(
    family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search, allowed: AllowedPositions
) -> Candidates:
    """Search without the filter for more, and drop what it does not let through; -1 if too few are left."""
    wanted = min(allowed.count, math.ceil(search.k * OVERFETCH * allowed.vectors_per_allowed))
    more = replace(search, k=wanted, allowed=None, native=None)
    mask = np.zeros(allowed.count, dtype=np.bool_)
    mask[allowed.positions] = True
    distances = np.empty((len(queries), search.k), dtype=np.float32)
    positions = np.empty((len(queries), search.k), dtype=np.int64)
    step = max(1, chunk_rows(wanted))
    for start in range(0, len(queries), step):
        near, places = _searched(family, index, queries[start : start + step], more)
        kept = mask[places] & (places >= 0)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : search.k]
        places = np.where(kept, places, -1)
        distances[start : start + step] = np.take_along_axis(near, order, axis=1)
        positions[start : start + step] = np.take_along_axis(places, order, axis=1)
    return distances, positions
