"""Validate vectors and row numbers, look up row numbers, and rank scores with stable ties."""

from collections.abc import Callable, Iterator, Sequence
from operator import gt

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from indexers.protocol import BadVectorsError, Metric, Neighbours

LARGEST = 1e16
"""Largest magnitude under inner product and Euclidean distance: beyond it float32 sums of squares overflow."""

CHUNK_BYTES = 64 << 20
NO_ROW = -1


def as_vectors(
    vectors: Shaped[np.ndarray, "..."], dim: int, metric: Metric, what: str = "vectors"
) -> Float32[np.ndarray, "n dim"]:
    """Return vectors as contiguous finite float32, made unit vectors under cosine (zero stays zero).

    Raises BadVectorsError: not two-dimensional, not real numbers, of another length, not finite, or too large.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] != dim:
        raise BadVectorsError(
            f"{what} have shape {array.shape}; this index takes (n, {dim}). Reshape or re-encode them."
        )
    if array.dtype.kind not in "fiu":
        raise BadVectorsError(f"{what} have dtype {array.dtype}; allowed are real numbers. Convert them to float32.")
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    array = np.ascontiguousarray(array)
    # One product bounds every value, and is false for NaN; where it says no, the reason is looked for.
    if metric != "cosine" and np.vdot(array, array) <= LARGEST**2:
        return array
    peak = np.abs(array).max(axis=1, initial=0)
    if not np.isfinite(peak).all():
        first = int(np.flatnonzero(~np.isfinite(peak))[0])
        raise BadVectorsError(f"{what}[{first}] holds NaN or infinity; all must be finite float32. Drop that vector.")
    if metric == "cosine":
        return unit(array, peak[:, None])
    if (peak > LARGEST).any():
        first = int(np.flatnonzero(peak > LARGEST)[0])
        raise BadVectorsError(
            f"{what}[{first}] reaches {peak[first]:.3g}; under {metric} at most {LARGEST:g} is allowed. Rescale them."
        )
    return array


def unit(vectors: Float32[np.ndarray, "n dim"], peak: Float32[np.ndarray, "n 1"]) -> Float32[np.ndarray, "n dim"]:
    """Divide each vector by its norm."""
    # Dividing by the peak first keeps the squares of very small and very large values inside float32.
    scaled = np.divide(vectors, peak, out=np.zeros_like(vectors), where=peak > 0)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.divide(scaled, norms, out=scaled, where=norms > 0)


def as_rows(rows: Shaped[np.ndarray, "..."]) -> Int64[np.ndarray, " n"]:
    """Return row numbers as int64. Raises BadVectorsError if they are not a list of whole numbers."""
    array = np.asarray(rows)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise BadVectorsError(
            f"row numbers have shape {array.shape} and dtype {array.dtype}; allowed is one dimension of int64."
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise BadVectorsError(f"row number {array.max()} does not fit in int64. Number the rows anew.")
    return array.astype(np.int64)


def sorted_rows(rows: Shaped[np.ndarray, "..."], count: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return the row numbers in ascending order, and the permutation that sorts them.

    Raises BadVectorsError: not as many as vectors, some twice, or -1, which stands for "no row".
    """
    array = as_rows(rows)
    if len(array) != count:
        raise BadVectorsError(f"{len(array)} row numbers for {count} vectors; give one row number per vector.")
    order = np.argsort(array, kind="stable")
    ascending = array[order]
    repeated = ascending[1:][ascending[1:] == ascending[:-1]]
    if repeated.size:
        raise BadVectorsError(f"row number {repeated[0]} is given twice; each may occur once. Drop all but one.")
    if contains(ascending, np.array([-1]))[0]:
        raise BadVectorsError("row number -1 is given; it stands for 'no row'. Number the rows anew.")
    return ascending, order


def sorted_vectors(
    rows: Shaped[np.ndarray, "..."], vectors: Shaped[np.ndarray, "..."], metric: Metric
) -> tuple[Int64[np.ndarray, " n"], int, Callable[[Int64[np.ndarray, " m"]], Float32[np.ndarray, "m dim"]]]:
    """Return ascending row numbers, the length of a vector, and what reads prepared vectors by position in that order.

    Raises BadVectorsError for vectors or row numbers that cannot be used.
    """
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise BadVectorsError(f"vectors have shape {vectors.shape}; allowed is (n, dim) with dim at least 1.")
    ascending, order = sorted_rows(rows, len(vectors))
    dim = int(vectors.shape[1])
    return ascending, dim, lambda positions: as_vectors(vectors[order[positions]], dim, metric)


def positions_in_chunks(count: int, dim: int) -> Iterator[Int64[np.ndarray, " m"]]:
    """Give all positions of an index, as many at a time as memory should hold vectors."""
    step = chunk_rows(dim)
    for start in range(0, count, step):
        yield np.arange(start, min(start + step, count))


def find_rows(ascending: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, "*a"]) -> Int64[np.ndarray, "*a"]:
    """Return the position of each row number in an ascending array, -1 if it is not there."""
    if not ascending.size:
        return np.full(rows.shape, NO_ROW)
    places = np.minimum(np.searchsorted(ascending, rows), len(ascending) - 1)
    return np.where(ascending[places] == rows, places, NO_ROW)


def contains(ascending: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " a"]) -> Bool[np.ndarray, " a"]:
    """Return which row numbers occur in an ascending array."""
    return find_rows(ascending, rows) >= 0


def positions_of(ascending: Int64[np.ndarray, " n"], rows: Shaped[np.ndarray, "..."]) -> Int64[np.ndarray, " p"]:
    """Return the positions of `rows` in an ascending array: ascending, each once, without unknown rows."""
    found = find_rows(ascending, as_rows(rows))
    found = found[found >= 0]
    if len(found) < len(ascending) // 16:
        return np.unique(found)
    # A mask costs one pass over the index, which is less than sorting that many.
    mask = np.zeros(len(ascending), dtype=np.bool_)
    mask[found] = True
    return np.flatnonzero(mask)


def check_k(k: int) -> None:
    """Raise BadVectorsError if k is below 1."""
    if k < 1:
        raise BadVectorsError(f"k is {k}; it must be at least 1.")


def chunk_rows(dim: int) -> int:
    """Vectors per chunk where many are converted, so that memory stays bounded."""
    return max(1, CHUNK_BYTES // (4 * max(1, dim)))


def top_k(rows: Int64[np.ndarray, "q m"], scores: Float32[np.ndarray, "q m"], k: int) -> Neighbours:
    """Return the k best of m scored rows per query, padded where m < k. A score of -inf means no row."""
    if rows.shape[1] == k and _in_order(scores):
        return Neighbours(rows, scores)
    short = max(0, k - rows.shape[1])
    rows = np.pad(np.where(scores == -np.inf, NO_ROW, rows), ((0, 0), (0, short)), constant_values=NO_ROW)
    scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    return Neighbours(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _in_order(scores: Float32[np.ndarray, "q m"]) -> bool:
    """Whether all scores fall strictly and none is -inf."""
    if len(scores) == 1:  # a list is three times as quick as an array of ten
        one = scores[0].tolist()
        return one[-1] > -np.inf and all(map(gt, one, one[1:]))
    return bool((scores[:, -1] > -np.inf).all() and (scores[:, :-1] > scores[:, 1:]).all())


def merge_top_k(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the k best of several answers to the same queries, which hold different rows."""
    return top_k(
        np.concatenate([part.rows for part in parts], axis=1),
        np.concatenate([part.scores for part in parts], axis=1),
        k,
    )
