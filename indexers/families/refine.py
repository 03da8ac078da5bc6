"""``IVF1024,PQ96x4fs,RFlat`` and the like: a coarse index selects candidates, finer copies of the vectors rank them.

``RFlat`` keeps the vectors as they are beside the codes, ``Refine(SQ8)`` a byte per dimension. The codes are those of
an IVF index (see `ivf`) or, in ``PQ96x4fs``, all vectors as four-bit codes that are compared in registers.
"""

from collections.abc import Mapping
from dataclasses import replace

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search, find_family, require_family

DEFAULT_K_FACTOR = 8
"""Candidates of the coarse index per neighbour wanted."""

FILTERED_EFFORT = 2
"""Factor on the candidates under a filter: the allowed rows may all be far from a query, and codes tell far vectors
apart less well (.945 of the ten nearest among a half that shares a region)."""


class FastScan(Family):
    """Four-bit codes of all vectors."""

    name = "PQ fast scan"

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexPQFastScan)

    def native(self, index: Native, search: Search) -> Native:
        return None  # FAISS takes no parameters here, and so no selector

    def memory_bytes(self, index: Native, count: int) -> int:
        return count * int(index.code_size) + 4 * int(index.pq.ksub * index.d)

    def takes_selector(self, index: Native) -> bool:
        return False

    def least_training_vectors(self, index: Native) -> int:
        return int(index.pq.ksub)


class Refine(Family):
    """A coarse index, and finer vectors beside it."""

    name = "refinement"
    examples: Mapping[str, Mapping[str, int]] = {
        "IVF4,PQ6,RFlat": {"nprobe": 4, "k_factor": 300},
        "IVF4,PQ6,Refine(SQ8)": {"nprobe": 4, "k_factor": 300},
        "IVF4,PQ12x4fs,RFlat": {"nprobe": 4, "k_factor": 300},
        "IVF,PQ12x4fs,Refine(SQ8)": {"nprobe": 4, "k_factor": 300},
        "PQ12x4fs,RFlat": {"k_factor": 300},
        "PQ12x4fs,Refine(SQ8)": {"k_factor": 300},
    }

    def matches(self, index: Native) -> bool:
        return isinstance(index, faiss.IndexRefine) and find_family(faiss.downcast_index(index.base_index)) is not None

    def native(self, index: Native, search: Search) -> Native:
        family, coarse = _coarse(index)
        effort = {name: value for name, value in search.effort.items() if name != "k_factor"}
        reachable, raised = int(index.ntotal), search.effort["k_factor"]
        if search.allowed is not None:
            reachable, raised = len(search.allowed.positions), raised * FILTERED_EFFORT
        return faiss.IndexRefineSearchParameters(
            k_factor=max(1, min(raised, -(-reachable // search.k))),
            # A selector outside these is ignored.
            base_index_params=family.native(coarse, replace(search, effort=effort)),
        )

    def memory_bytes(self, index: Native, count: int) -> int:
        family, coarse = _coarse(index)
        return family.memory_bytes(coarse, count) + count * int(self.vector_storage(index).code_size)

    def parameters(self, index: Native) -> Mapping[str, int]:
        family, coarse = _coarse(index)
        return {**family.parameters(coarse), "k_factor": DEFAULT_K_FACTOR}

    def takes_selector(self, index: Native) -> bool:
        family, coarse = _coarse(index)
        return family.takes_selector(coarse)

    def vector_storage(self, index: Native) -> Native:
        return faiss.downcast_index(index.refine_index)

    def least_training_vectors(self, index: Native) -> int:
        family, coarse = _coarse(index)
        return family.least_training_vectors(coarse)

    def finish(self, index: Native) -> None:
        family, coarse = _coarse(index)
        family.finish(coarse)

    def gpu_part(self, index: Native) -> Native:
        family, coarse = _coarse(index)
        return family.gpu_part(coarse)


def _coarse(index: Native) -> tuple[Family, Native]:
    coarse = faiss.downcast_index(index.base_index)
    return require_family(coarse), coarse
