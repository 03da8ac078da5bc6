"""``IVF1024,PQ96x4fs,RFlat`` and the like: coarse codes propose, finer copies of the vectors decide.

``RFlat`` keeps the vectors as they are beside the codes, ``Refine(SQ8)`` a byte a dimension. The codes are those of an
IVF index (see `ivf`) or, in ``PQ96x4fs``, all vectors as four-bit codes that are compared in registers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

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


def _of_coarse(name: str) -> Callable[[Native], Any]:
    """Apply a function of the coarse index's family to the coarse index."""

    def apply(index: Native) -> Any:  # noqa: ANN401 - whatever the function returns
        family, coarse = _below(index)
        return getattr(family, name)(coarse)

    return apply


def _bytes_for(index: Native, count: int) -> int:
    family, coarse = _below(index)
    return family.bytes_for(coarse, count) + count * int(_fine(index).code_size)


def _below(index: Native) -> tuple[Family, Native]:
    coarse = _coarse(index)
    family = family_of(coarse)
    if family is None:
        raise TypeError(f"no family here is the coarse index {type(coarse).__name__} of a refinement")
    return family, coarse


def _coarse(index: Native) -> Native:
    return faiss.downcast_index(index.base_index)


def _fine(index: Native) -> Native:
    return faiss.downcast_index(index.refine_index)


FAST_SCAN = Family(
    name="PQ fast scan",
    examples={},
    takes=lambda index: isinstance(index, faiss.IndexPQFastScan),
    # FAISS takes no parameters here, and so no selector.
    native=lambda index, search: None,
    bytes_for=lambda index, count: count * int(index.code_size) + 4 * int(index.pq.ksub * index.d),
    selects=lambda _: False,
    least=lambda index: int(index.pq.ksub),
)

REFINE = Family(
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
    selects=_of_coarse("selects"),
    holder=_fine,
    least=_of_coarse("least"),
    finish=_of_coarse("finish"),
    gpu_part=_of_coarse("gpu_part"),
)
