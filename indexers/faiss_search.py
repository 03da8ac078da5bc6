"""One search of a FAISS index: as it is, exactly among few, by a selector, or by fetching more."""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from indexers.devices import GpuCopy
from indexers.faiss_module import Native, faiss
from indexers.family import Among, Family, Found, Search
from indexers.stored import decided, search_among
from indexers.vectors import chunk_rows

__all__ = ["completed", "find", "find_on_gpu"]

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
        if not gpu.takes(wanted):
            return None
        proposed = gpu.search(queries, wanted, params.base_index_params)[1]
        return decided(family.holder(index), queries, search.k, proposed)
    return gpu.search(queries, search.k, params if search.effort else None) if gpu.takes(search.k) else None


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
