"""``IVF1024,PQ96x4fs,RFlat`` and the like: coarse codes propose, finer copies of the vectors decide.

``RFlat`` keeps the vectors as they are beside the codes, ``Refine(SQ8)`` a byte a dimension.
"""

from collections.abc import Mapping
from dataclasses import replace

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search, family_of

DEFAULT_K_FACTOR = 8
"""Candidates that the coarse codes propose for each neighbour wanted."""

FILTERED_EFFORT = 2
"""How many times more candidates under a filter: what it leaves may all be far from a query, and codes tell far vectors
apart less well (.945 of the ten nearest among a half that shares a region)."""


def _takes(index: Native) -> bool:
    return isinstance(index, faiss.IndexRefine) and family_of(_coarse(index)) is not None


def _native(index: Native, search: Search) -> Native:
    family, coarse = _below(index)
    below = {name: value for name, value in search.effort.items() if name != "k_factor"}
    reachable, raised = int(index.ntotal), search.effort["k_factor"]
    if search.among is not None:
        reachable, raised = len(search.among.positions), raised * FILTERED_EFFORT
    return faiss.IndexRefineSearchParameters(
        k_factor=max(1, min(raised, -(-reachable // search.k))),
        # A selector outside these is ignored.
        base_index_params=family.native(coarse, replace(search, effort=below)),
    )


def _parameters(index: Native) -> Mapping[str, int]:
    family, coarse = _below(index)
    return {**family.parameters(coarse), "k_factor": DEFAULT_K_FACTOR}


def _selects(index: Native) -> bool:
    family, coarse = _below(index)
    return family.selects(coarse)


def _least(index: Native) -> int:
    family, coarse = _below(index)
    return family.least(coarse)


def _finish(index: Native) -> None:
    family, coarse = _below(index)
    family.finish(coarse)


def _gpu_part(index: Native) -> Native:
    family, coarse = _below(index)
    return family.gpu_part(coarse)


def _bytes_for(index: Native, count: int) -> int:
    family, coarse = _below(index)
    return family.bytes_for(coarse, count) + count * int(_fine(index).code_size)


def _below(index: Native) -> tuple[Family, Native]:
    coarse = _coarse(index)
    family = family_of(coarse)
    if family is None:
        raise TypeError(f"a refinement of {type(coarse).__name__} was never taken")
    return family, coarse


def _coarse(index: Native) -> Native:
    return faiss.downcast_index(index.base_index)


def _fine(index: Native) -> Native:
    return faiss.downcast_index(index.refine_index)


FAMILY = Family(
    name="refinement",
    examples={
        "IVF4,PQ6,RFlat": {"nprobe": 4, "k_factor": 300},
        "IVF4,PQ6,Refine(SQ8)": {"nprobe": 4, "k_factor": 300},
        "IVF4,PQ12x4fs,RFlat": {"nprobe": 4, "k_factor": 300},
        "IVF,PQ12x4fs,Refine(SQ8)": {"nprobe": 4, "k_factor": 300},
        "PQ12x4fs,RFlat": {"k_factor": 300},
        "PQ12x4fs,Refine(SQ8)": {"k_factor": 300},
    },
    takes=_takes,
    native=_native,
    bytes_for=_bytes_for,
    parameters=_parameters,
    selects=_selects,
    holder=_fine,
    least=_least,
    finish=_finish,
    gpu_part=_gpu_part,
)
