"""``IVF1024,PQ64`` and ``IVF1024,PQ96x4fs``: lists of product-quantised codes, by tables or, with fs, in registers.

They are too coarse to answer alone: see `refine`.
"""

from dataclasses import replace

from indexers.devices import Native, faiss
from indexers.families.ivf import FAMILY as IVF

GPU_BITS = 8

BLOCK = 32
"""Vectors that fast scan packs together; the last block of a list is half empty on average."""


def _bytes_for(index: Native, count: int) -> int:
    codebook = 4 * int(index.pq.ksub * index.d)
    padding = int(index.nlist * index.code_size) * BLOCK // 2 if isinstance(index, faiss.IndexIVFPQFastScan) else 0
    return IVF.bytes_for(index, count) + codebook + padding


FAMILY = replace(
    IVF,
    name="IVF-PQ",
    examples={},
    takes=lambda index: isinstance(index, faiss.IndexIVFPQ | faiss.IndexIVFPQFastScan),
    bytes_for=_bytes_for,
    least=lambda index: max(int(index.nlist), int(index.pq.ksub)),
    gpu_part=lambda index: index if isinstance(index, faiss.IndexIVFPQ) and index.pq.nbits == GPU_BITS else None,
)
