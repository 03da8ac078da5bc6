"""Search of a FAISS index: plain, exact over few allowed rows, with a selector, or by over-fetching."""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int64

from indexers.devices import LARGEST_GPU_K, GpuCopy, Native, faiss
from indexers.faiss_recipe import Among, Family, Found, Search
from indexers.vectors import chunk_rows


def stored_vectors(holder: Native, positions: Int64[np.ndarray, " p"]) -> Float32[np.ndarray, "p dim"]:
    """Return vectors by position, decoded where they are held as codes."""
    if not isinstance(holder, faiss.IndexFlatCodes):
        return holder.reconstruct_batch(positions)
    codes = faiss.rev_swig_ptr(holder.codes.data(), holder.ntotal * holder.code_size)
    chosen = codes.reshape(holder.ntotal, holder.code_size)[positions]
    if isinstance(holder, faiss.IndexFlat):
        return chosen.view(np.float32)
    return holder.sa_decode(chosen)


def search_among(
    holder: Native, queries: Float32[np.ndarray, "q dim"], k: int, positions: Int64[np.ndarray, " p"]
) -> Found:
    """Search exactly among ascending positions, by the vectors as held. Needs k <= p."""
    if isinstance(holder, faiss.IndexFlat):
        selector = faiss.IDSelectorArray(positions)
        distances, found = holder.search(queries, k, params=faiss.SearchParameters(sel=selector))
        return distances, found
    sign = 1 if holder.metric_type == faiss.METRIC_L2 else -1
    distances = np.empty((len(queries), 0), dtype=np.float32)
    best = np.empty((len(queries), 0), dtype=np.int64)
    step = chunk_rows(holder.d)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        near, places = faiss.knn(queries, stored_vectors(holder, part), min(k, len(part)), holder.metric_type)
        distances = np.concatenate([distances, near], axis=1)
        best = np.concatenate([best, part[places]], axis=1)
        keep = np.lexsort((best, sign * distances), axis=-1)[:, :k]
        distances, best = np.take_along_axis(distances, keep, 1), np.take_along_axis(best, keep, 1)
    return distances, best


def decided(holder: Native, queries: Float32[np.ndarray, "q dim"], k: int, proposed: Int64[np.ndarray, "q m"]) -> Found:
    """Return the k best of proposed positions, by the vectors as held; -1 stands for none."""
    distances = np.empty((len(queries), k), dtype=np.float32)
    best = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, chunk_rows(holder.d) // proposed.shape[1])
    nearest_first = holder.metric_type == faiss.METRIC_L2
    for start in range(0, len(queries), step):
        part = proposed[start : start + step]
        vectors = stored_vectors(holder, np.maximum(part, 0).reshape(-1)).reshape(*part.shape, holder.d)
        some = queries[start : start + step, None]
        cost = np.square(vectors - some).sum(axis=2) if nearest_first else -(vectors * some).sum(axis=2)
        cost = np.where(part < 0, np.float32(np.inf), cost)
        keep = np.lexsort((part, cost), axis=-1)[:, :k]
        cost = np.take_along_axis(cost, keep, axis=1)
        distances[start : start + step] = cost if nearest_first else -cost
        best[start : start + step] = np.take_along_axis(part, keep, axis=1)
    return distances, best


OVERFETCH = 2
"""Where an index takes no selector, so many times what the filter leaves on average is fetched; the short go exact."""


def find(family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search) -> Found:
    """Return the k best positions of each query. Needs k <= what is there, or allowed."""
    among = search.among
    if among is None:
        found = _searched(family, index, queries, search)
    elif len(among.positions) <= family.exact_scale * math.sqrt(among.count):
        return search_among(family.holder(index), queries, search.k, among.positions)
    elif family.selects(index):
        found = _searched(family, index, queries, search)
    else:
        found = _without_selector(family, index, queries, search, among)
    return completed(family, index, queries, search, found)


def completed(
    family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search, found: Found
) -> Found:
    """Search those queries exactly that came back short."""
    among = search.among
    # A graph may hold vectors that no link leads to, and lists may hold too few; FAISS puts what is missing last.
    if (found[1][0, -1] if len(queries) == 1 else found[1][:, -1].min()) < 0:
        short = np.flatnonzero((found[1] < 0).any(axis=1))
        everything = np.arange(index.ntotal) if among is None else among.positions
        found[0][short], found[1][short] = search_among(family.holder(index), queries[short], search.k, everything)
    return found


def find_on_gpu(
    family: Family, index: Native, gpu: GpuCopy, queries: Float32[np.ndarray, "q dim"], search: Search
) -> Found | None:
    """Return the k best positions of each query without a filter; None where a GPU cannot select so many.

    Where the GPU has only what proposes, the vectors beside it decide on the CPU.
    """
    params = family.native(index, search) if search.native is None else search.native
    if isinstance(params, faiss.IndexRefineSearchParameters):
        wanted = search.k * int(params.k_factor)
        if wanted > LARGEST_GPU_K:
            return None
        proposed = gpu.search(queries, wanted, params.base_index_params)[1]
        return decided(family.holder(index), queries, search.k, proposed)
    return gpu.search(queries, search.k, params if search.effort else None) if search.k <= LARGEST_GPU_K else None


def _searched(family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search) -> Found:
    params = family.native(index, search) if search.native is None else search.native
    distances, positions = index.search(queries, search.k, params=params)
    return distances, positions


def _without_selector(
    family: Family, index: Native, queries: Float32[np.ndarray, "q dim"], search: Search, among: Among
) -> Found:
    """Search without the filter for more, and drop what it does not let through; -1 where too few are left."""
    wanted = min(among.count, math.ceil(search.k * OVERFETCH * among.scarcity))
    more = replace(search, k=wanted, among=None, native=None)
    allowed = np.zeros(among.count, dtype=np.bool_)
    allowed[among.positions] = True
    distances = np.empty((len(queries), search.k), dtype=np.float32)
    positions = np.empty((len(queries), search.k), dtype=np.int64)
    step = max(1, chunk_rows(wanted))
    for start in range(0, len(queries), step):
        near, places = _searched(family, index, queries[start : start + step], more)
        kept = allowed[places] & (places >= 0)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : search.k]
        places = np.where(kept, places, -1)
        distances[start : start + step] = np.take_along_axis(near, order, axis=1)
        positions[start : start + step] = np.take_along_axis(places, order, axis=1)
    return distances, positions
