"""``IVF1024,Flat`` and ``IVF1024,SQ8``, or ``IVF,...`` for as many lists as suit: vectors in lists by nearest centroid.

A search reads the lists nearest to the query. Lists of product-quantised codes (``IVF1024,PQ64``, and ``PQ96x4fs``,
which is compared in registers) are too coarse to answer alone: see `refine`.
"""

from collections.abc import Mapping

import numpy as np

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search

PROBED_SHARE = 32
"""By default one list in so many is read, and no fewer than LEAST_PROBED."""

LEAST_PROBED = 8

FILTERED_EFFORT = 2
"""A filtered search has nprobe * FILTERED_EFFORT * sqrt(n / allowed), at most the lists that hold an allowed row."""

POSITION_BYTES = 16
"""Per vector: 8 bytes for its position in the list, and 8 in the map from positions to lists."""

GPU_BITS = 8

BLOCK = 32
"""Vectors that fast scan packs together; the last block of a list is half empty on average."""


class IVF(Family):
    """Vectors, or a byte per dimension, in lists."""

    name = "IVF"
    examples: Mapping[str, Mapping[str, int]] = {
        factory: {"nprobe": 4} for factory in ("IVF4,Flat", "IVF,Flat", "IVF4,SQ8")
    }

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexIVFFlat | faiss.IndexIVFScalarQuantizer)

    def native(self, index: Native, search: Search) -> Native:
        lists, probed = int(index.nlist), search.effort["nprobe"]
        if search.allowed is None:
            return faiss.SearchParametersIVF(nprobe=min(probed, lists))
        entries = index.direct_map.array
        list_of_position = np.asarray(faiss.rev_swig_ptr(entries.data(), entries.size())) >> 32
        # Lists without an allowed row would use up what is to be probed.
        useful = np.flatnonzero(np.bincount(list_of_position[search.allowed.positions], minlength=lists))
        raised = int(np.ceil(probed * FILTERED_EFFORT * search.allowed.vectors_per_allowed**0.5))
        return faiss.SearchParametersIVF(
            nprobe=min(raised, len(useful)),
            sel=search.allowed.selector,
            quantizer_params=faiss.SearchParameters(sel=faiss.IDSelectorArray(useful)),
        )

    def memory_bytes(self, index: Native, count: int) -> int:
        return count * (int(index.code_size) + POSITION_BYTES) + 4 * int(index.nlist * index.d)

    def parameters(self, index: Native) -> Mapping[str, int]:
        lists = int(index.nlist)
        return {"nprobe": min(lists, max(LEAST_PROBED, lists // PROBED_SHARE))}

    def least_training_vectors(self, index: Native) -> int:
        return int(index.nlist)

    def finish(self, index: Native) -> None:
        index.make_direct_map()

    def gpu_part(self, index: Native) -> Native:
        return index if isinstance(index, faiss.IndexIVFFlat) else None


class IVFPQ(IVF):
    """Product-quantised codes in lists."""

    name = "IVF-PQ"
    examples: Mapping[str, Mapping[str, int]] = {}

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexIVFPQ | faiss.IndexIVFPQFastScan)

    def memory_bytes(self, index: Native, count: int) -> int:
        codebook = 4 * int(index.pq.ksub * index.d)
        padding = int(index.nlist * index.code_size) * BLOCK // 2 if isinstance(index, faiss.IndexIVFPQFastScan) else 0
        return super().memory_bytes(index, count) + codebook + padding

    def least_training_vectors(self, index: Native) -> int:
        return max(int(index.nlist), int(index.pq.ksub))

    def gpu_part(self, index: Native) -> Native:
        return index if isinstance(index, faiss.IndexIVFPQ) and index.pq.nbits == GPU_BITS else None
