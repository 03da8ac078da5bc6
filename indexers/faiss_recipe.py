"""FAISS recipes: factory strings, the families of `indexers/families`, and their search parameters."""

import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

import indexers.families
from indexers.devices import Native, faiss
from indexers.protocol import IndexersError, IndexSpec

Found: TypeAlias = tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]
"""FAISS's distances (squared Euclidean, or inner product) and positions; -1 where there is none."""


@dataclass(frozen=True, eq=False)
class Among:
    """The positions that a filter lets through.

    Attributes:
        positions: Ascending, at least one.
        count: Number of vectors in the whole index.

    """

    positions: Int64[np.ndarray, " p"]
    count: int

    @property
    def scarcity(self) -> float:
        """How many vectors there are for each one that is let through."""
        return self.count / len(self.positions)

    @cached_property
    def selector(self) -> Native:
        """FAISS's form of it: a bit a vector."""
        mask = np.zeros(self.count, dtype=np.bool_)
        mask[self.positions] = True
        return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """The parameters of one search.

    Attributes:
        k: Neighbours wanted.
        effort: Every search parameter of the family by name, each 1 or more.
        among: The rows that a filter lets through; None without a filter.
        native: FAISS's form of these parameters, where it was made before.

    """

    k: int
    effort: Mapping[str, int]
    among: Among | None = None
    native: Native = None


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A family of FAISS recipes: how its indexes are recognised, searched and read, and how large they are.

    Attributes:
        name: What messages call it.
        examples: Factory strings, with search parameters that make each find what exact search finds among 300 vectors
            of 24 dimensions; the contract suite builds them all. None: it is used only inside another family.
        takes: Whether a FAISS index is of this family.
        native: FAISS's parameters of one search. A filter's selector goes into them, and effort is raised.
        bytes_for: The bytes an index like this empty one takes in memory with so many vectors.
        parameters: Search parameters with their defaults.
        selects: Whether a search takes a selector; where not, more is fetched and what is not allowed is dropped.
        holder: The FAISS index that gives a vector back by its position: the index itself, or a part of it.
        least: How many vectors it takes to train; an index of fewer is held flat.
        finish: Prepares an index for reading, once all vectors are in it.
        gpu_part: The part that a GPU can search, the index itself or what proposes for it; None where it has none.
        exact_scale: Up to exact_scale * sqrt(n) allowed rows are searched exactly.

    """

    name: str
    examples: Mapping[str, Mapping[str, int]]
    takes: Callable[[Native], bool]
    native: Callable[[Native, Search], Native]
    bytes_for: Callable[[Native, int], int]
    parameters: Callable[[Native], Mapping[str, int]] = lambda _: {}
    selects: Callable[[Native], bool] = lambda _: True
    holder: Callable[[Native], Native] = lambda index: index
    least: Callable[[Native], int] = lambda _: 1
    finish: Callable[[Native], None] = lambda _: None
    gpu_part: Callable[[Native], Native] = lambda _: None
    exact_scale: float = 20.0


@cache
def families() -> tuple[Family, ...]:
    """Return all families that the files of `indexers/families` define, in the order of the files' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(indexers.families.__path__))
    modules = [import_module(f"indexers.families.{name}") for name in names]
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Family))


def family_of(index: Native) -> Family | None:
    """Return the family of a FAISS index; None where it has none here."""
    return next((family for family in families() if family.takes(index)), None)


VECTORS_A_LIST = 39
"""Fewer than this a centroid, FAISS says, train it badly."""

CODED_A_CENTROID = 64
"""Parts of vectors that train a centroid of a product quantiser; FAISS's own 256 mean four times the work."""


def new_index(spec: IndexSpec, dim: int, count: int) -> Native:
    """Return an empty FAISS index for a number of vectors; flat where they are too few to train the recipe.

    Raises:
        IndexersError: A recipe, or one of its search parameters, that is unknown here.

    """
    index = _made(spec, spec.factory, dim, count)
    family = family_of(index)
    if family is None or not family.examples:
        raise IndexersError(f"{spec.factory!r} was given. {_allowed()}")
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
    """Skip training that is not used, and FAISS's warnings on stderr where a centroid has few vectors."""
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
