"""What the FAISS recipes differ in. One file of `indexers/families` describes one family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from indexers.faiss_module import Native, faiss

__all__ = ["Among", "Family", "Found", "Search"]

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
    """What is asked of one search, the queries aside.

    Attributes:
        k: Neighbours wanted.
        effort: Every search parameter of the family by name, each 1 or more.
        among: What a filter lets through; None without a filter.
        native: The family's `native` of all this, where it is at hand.

    """

    k: int
    effort: Mapping[str, int]
    among: Among | None = None
    native: Native = None


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A family of FAISS recipes: how its indexes are recognised, searched, read and weighed.

    Attributes:
        name: What messages call it.
        examples: Factory strings, with search parameters that make each find what exact search finds among 300 vectors
            of 24 dimensions; the contract suite builds them all. None: it stands only below another family.
        takes: Whether a FAISS index is of this family.
        native: The parameters that travel with one search. A filter's selector goes into them, and effort is raised.
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
