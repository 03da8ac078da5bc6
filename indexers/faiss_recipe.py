"""FAISS recipes: factory strings, the families of `indexers/families`, and their search parameters."""

import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

import indexers.families
from indexers.devices import Native, faiss
from indexers.protocol import IndexersError, IndexSpec

Candidates: TypeAlias = tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]
"""FAISS's distances (squared Euclidean, or inner product) and positions; -1 if there is none."""


@dataclass(frozen=True, eq=False)
class AllowedPositions:
    """The ascending positions (at least one) that a filter lets through, of an index of `count` vectors."""

    positions: Int64[np.ndarray, " p"]
    count: int

    @property
    def vectors_per_allowed(self) -> float:
        """Number of vectors in the index divided by the number of allowed positions."""
        return self.count / len(self.positions)

    @cached_property
    def selector(self) -> Native:
        """FAISS's form of it: one bit per vector."""
        mask = np.zeros(self.count, dtype=np.bool_)
        mask[self.positions] = True
        return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """The parameters of one search: neighbours wanted, every search parameter of the family, and the filter, if any.

    `native` is FAISS's form of these parameters, if it was made before.
    """

    k: int
    effort: Mapping[str, int]
    allowed: AllowedPositions | None = None
    native: Native = None


class Family(ABC):
    """A family of FAISS recipes: how its indexes are recognised, searched and read, and how large they are.

    Attributes:
        name: What messages call it.
        examples: Factory strings, with search parameters that make each find what exact search finds among 300 vectors
            of 24 dimensions; the contract suite builds them all. Empty if it is used only inside another family.
        exact_scale: Up to exact_scale * sqrt(n) allowed rows are searched exactly.

    """

    name: str
    examples: Mapping[str, Mapping[str, int]] = {}
    exact_scale = 20.0

    @abstractmethod
    def matches(self, index: Native) -> bool:
        """Whether a FAISS index is of this family."""

    @abstractmethod
    def native(self, index: Native, search: Search) -> Native:
        """FAISS's parameters of one search; with a filter they hold its selector, and more effort."""

    @abstractmethod
    def memory_bytes(self, index: Native, count: int) -> int:
        """The bytes that an index like this empty one takes in memory with so many vectors."""

    def parameters(self, index: Native) -> Mapping[str, int]:
        """Search parameters with their defaults."""
        return {}

    def takes_selector(self, index: Native) -> bool:
        """Whether a search takes a selector; if not, more is fetched and what is not allowed is dropped."""
        return True

    def vector_storage(self, index: Native) -> Native:
        """The FAISS index that stores the vectors by position: the index itself, or a part of it."""
        return index

    def least_training_vectors(self, index: Native) -> int:
        """How many vectors training needs; an index of fewer is held flat."""
        return 1

    def finish(self, index: Native) -> None:
        """Prepare an index for reading, once all vectors are in it."""
        del index

    def gpu_part(self, index: Native) -> Native:
        """The part that a GPU can search, the index itself or its coarse index; None if it has none."""
        return None


@cache
def families() -> tuple[Family, ...]:
    """Return all families that the files of `indexers/families` define, in the order of the files' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(indexers.families.__path__))
    modules = [import_module(f"indexers.families.{name}") for name in names]
    return tuple(
        kind()
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Family) and kind.__module__ == module.__name__
    )


def find_family(index: Native) -> Family | None:
    """Return the family of a FAISS index; None if it has none here."""
    return next((family for family in families() if family.matches(index)), None)


VECTORS_A_LIST = 39
"""Vectors per list that training needs at least, as FAISS says."""

CODED_A_CENTROID = 64
"""Parts of vectors that train a centroid of a product quantiser; FAISS's own 256 mean four times the work."""


def new_index(spec: IndexSpec, dim: int, count: int) -> Native:
    """Return an empty FAISS index for a number of vectors; flat where they are too few to train the recipe.

    Raises IndexersError for a recipe, or one of its search parameters, that is unknown here.
    """
    index = _made(spec, spec.factory, dim, count)
    family = find_family(index)
    if family is None or not family.examples:
        raise IndexersError(f"{spec.factory!r} was given. {_allowed()}")
    search_effort(family, index, spec.search)
    return _made(spec, "Flat", dim, count) if count < family.least_training_vectors(index) else index


def memory_bytes(spec: IndexSpec, dim: int, count: int) -> int:
    """Return the bytes that a recipe takes in memory for a number of vectors, row numbers included."""
    index = new_index(spec, dim, count)
    return require_family(index).memory_bytes(index, count) + 8 * count


def require_family(index: Native) -> Family:
    """Return the family of a FAISS index. Raises IndexersError if it has none here."""
    family = find_family(index)
    if family is None:
        raise IndexersError(f"{type(index).__name__} is unknown here. {_allowed()}")
    return family


def search_effort(family: Family, index: Native, given: Mapping[str, int]) -> dict[str, int]:
    """Return every search parameter: as given, or its default. A family without any ignores what is given.

    Raises IndexersError if the family has no such parameter, or its value is not a positive whole number.
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
    """Write the number of lists into ``IVF,...``: the power of two nearest to 4 * sqrt(n) that can be trained well."""
    suited = round(np.log2(max(1.0, 4 * count**0.5)))
    trained = int(np.log2(max(1, count // VECTORS_A_LIST)))
    return re.sub(r"^IVF(?=,)", f"IVF{2 ** min(suited, trained)}", factory)


def _allowed() -> str:
    examples = ", ".join(example for family in families() for example in family.examples)
    return f"Allowed are recipes like {examples}; other numbers are too."
