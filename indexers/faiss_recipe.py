"""From a factory string to an empty FAISS index, its family, and its search parameters."""

import re
from collections.abc import Mapping

import numpy as np

from indexers.faiss_module import Native, faiss
from indexers.family import Family
from indexers.known import families, family_of
from indexers.types import IndexersError, IndexSpec

__all__ = ["effort_of", "family_for", "memory_bytes", "new_index"]

VECTORS_A_LIST = 39
"""Fewer than this a centroid, FAISS says, train it badly."""

CODED_A_CENTROID = 64
"""Parts of vectors that train a centroid of a product quantiser; FAISS's own 256 mean four times the work."""


def new_index(spec: IndexSpec, dim: int, count: int) -> Native:
    """Return an empty FAISS index for a number of vectors; flat where they are too few to train what is asked for.

    Raises:
        IndexersError: A recipe, or one of its search parameters, that is unknown here.

    """
    index = _made(spec, spec.factory, dim, count)
    family = family_of(index)
    if family is None or not family.examples:
        raise IndexersError(f"{spec.factory!r} was asked for. {_allowed()}")
    effort_of(family, index, spec.search)
    return _made(spec, "Flat", dim, count) if count < family.least(index) else index


def memory_bytes(spec: IndexSpec, dim: int, count: int) -> int:
    """Return the bytes that a recipe takes in memory for a number of vectors, row numbers included."""
    index = new_index(spec, dim, count)
    return family_for(index).bytes_for(index, count) + 8 * count


def family_for(index: Native) -> Family:
    """Return the family of a FAISS index. Raises IndexersError where it has none here."""
    family = family_of(index)
    if family is None:
        raise IndexersError(f"{type(index).__name__} is unknown here. {_allowed()}")
    return family


def effort_of(family: Family, index: Native, given: Mapping[str, int]) -> dict[str, int]:
    """Return every search parameter: as given, or its default. What can't be tuned takes any and ignores them.

    Raises:
        IndexersError: The family has no such parameter, or its value is not a positive whole number.

    """
    defaults = family.parameters(index)
    if not defaults:
        return {}
    for name, value in given.items():
        if name not in defaults or not isinstance(value, int | np.integer) or value < 1:
            raise IndexersError(
                f"search parameter {name}={value!r} was given; {family.name} takes {' and '.join(defaults)}, 1 or more."
            )
    return {**defaults, **{name: int(value) for name, value in given.items()}}


def _made(spec: IndexSpec, factory: str, dim: int, count: int) -> Native:
    metric = faiss.METRIC_L2 if spec.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(dim, _with_lists(factory, count), metric)
    except RuntimeError as error:
        raise IndexersError(f"FAISS cannot make {factory!r} for {dim} dimensions. {_allowed()}") from error
    _set_training(index)
    return index


def _set_training(index: Native) -> None:
    """Leave out what would be trained in vain, and FAISS's words on stderr where a centroid has few vectors."""
    if isinstance(index, faiss.IndexRefine):
        _set_training(faiss.downcast_index(index.base_index))
    if hasattr(index, "cp"):
        index.cp.min_points_per_centroid = 1
    if hasattr(index, "pq"):
        index.pq.cp.min_points_per_centroid = 1
        index.pq.cp.max_points_per_centroid = CODED_A_CENTROID
    if hasattr(index, "do_polysemous_training"):
        # Ten seconds of annealing, for a kind of search that is not offered.
        index.do_polysemous_training = False


def _with_lists(factory: str, count: int) -> str:
    """Write the number of lists into ``IVF,...``: the power of two nearest to 4 * sqrt(n), where enough train it."""
    suited = round(np.log2(max(1.0, 4 * count**0.5)))
    trained = int(np.log2(max(1, count // VECTORS_A_LIST)))
    return re.sub(r"^IVF(?=,)", f"IVF{2 ** min(suited, trained)}", factory)


def _allowed() -> str:
    examples = ", ".join(example for family in families() for example in family.examples)
    return f"Allowed are recipes like {examples}; other numbers are too."
