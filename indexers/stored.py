"""Vectors as a FAISS index holds them: by position, and exact search among some positions."""

import numpy as np
from jaxtyping import Float32, Int64

from indexers.faiss_module import Native, faiss
from indexers.family import Found
from indexers.vectors import chunk_rows

__all__ = ["decided", "search_among", "stored_vectors"]


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
