"""``IVF1024,Flat`` and ``IVF1024,SQ8``, or ``IVF,...`` for as many lists as suit: vectors in lists by nearest centroid.

A search reads the lists nearest to the query. Lists of product-quantised codes (``IVF1024,PQ64``, and ``PQ96x4fs``,
which is compared in registers) are too coarse to answer alone: see `refine`.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search

PROBED_SHARE = 32
"""By default one list in so many is read, and no fewer than LEAST_PROBED."""

LEAST_PROBED = 8

FILTERED_EFFORT = 2
"""How much harder a filtered search works, times the root of n / allowed, over the lists that hold an allowed row."""

POSITION_BYTES = 16
"""A list names its vectors, and a map leads from a vector to its place."""


def _parameters(index: Native) -> Mapping[str, int]:
    lists = int(index.nlist)
    return {"nprobe": min(lists, max(LEAST_PROBED, lists // PROBED_SHARE))}


def _native(index: Native, search: Search) -> Native:
    lists, probed = int(index.nlist), search.effort["nprobe"]
    if search.among is None:
        return faiss.SearchParametersIVF(nprobe=min(probed, lists))
    # Lists without an allowed row would use up what is to be probed.
    useful = np.flatnonzero(np.bincount(_lists(index)[search.among.positions], minlength=lists))
    raised = int(np.ceil(probed * FILTERED_EFFORT * search.among.scarcity**0.5))
    return faiss.SearchParametersIVF(
        nprobe=min(raised, len(useful)),
        sel=search.among.selector,
        quantizer_params=faiss.SearchParameters(sel=faiss.IDSelectorArray(useful)),
    )


def _lists(index: Native) -> np.ndarray:
    """Return the list of each position."""
    places = index.direct_map.array
    return np.asarray(faiss.rev_swig_ptr(places.data(), places.size())) >> 32


def _bytes_for(index: Native, count: int) -> int:
    return count * (int(index.code_size) + POSITION_BYTES) + 4 * int(index.nlist * index.d)


IVF = Family(
    name="IVF",
    examples={"IVF4,Flat": {"nprobe": 4}, "IVF,Flat": {"nprobe": 4}, "IVF4,SQ8": {"nprobe": 4}},
    takes=lambda index: isinstance(index, faiss.IndexIVFFlat | faiss.IndexIVFScalarQuantizer),
    native=_native,
    bytes_for=_bytes_for,
    parameters=_parameters,
    least=lambda index: int(index.nlist),
    finish=lambda index: index.make_direct_map(),
    gpu_part=lambda index: index if isinstance(index, faiss.IndexIVFFlat) else None,
)


GPU_BITS = 8

BLOCK = 32
"""Vectors that fast scan packs together; the last block of a list is half empty on average."""


def _code_bytes(index: Native, count: int) -> int:
    codebook = 4 * int(index.pq.ksub * index.d)
    padding = int(index.nlist * index.code_size) * BLOCK // 2 if isinstance(index, faiss.IndexIVFPQFastScan) else 0
    return _bytes_for(index, count) + codebook + padding


IVF_PQ = replace(
    IVF,
    name="IVF-PQ",
    examples={},
    takes=lambda index: isinstance(index, faiss.IndexIVFPQ | faiss.IndexIVFPQFastScan),
    bytes_for=_code_bytes,
    least=lambda index: max(int(index.nlist), int(index.pq.ksub)),
    gpu_part=lambda index: index if isinstance(index, faiss.IndexIVFPQ) and index.pq.nbits == GPU_BITS else None,
)
