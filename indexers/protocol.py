"""The index protocol, and its types: vectors and row numbers in, `Neighbours` out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

EXACT = "Exact"
"""The factory string of exact search by torch, which needs no FAISS."""

Metric: TypeAlias = Literal["cosine", "ip", "l2"]
"""Cosine, inner product, or Euclidean. Scores are the cosine, the inner product, or minus the Euclidean distance."""


class IndexersError(Exception):
    """Base of all errors raised by `indexers`."""


class BadVectorsError(IndexersError):
    """Vectors of a wrong shape or kind, not finite, or duplicated row numbers."""


class IndexFileError(IndexersError):
    """A saved index is missing, damaged, or of another format version."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The best rows of each query, best first.

    Attributes:
        rows: Row numbers; -1 if there are fewer than k.
        scores: Higher is better; -inf beside row -1.

    """

    rows: Int64[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """A recipe: which index to build and how hard it searches.

    Attributes:
        factory: FAISS factory string, such as ``Flat``, ``HNSW32,Flat`` or ``IVF,PQ96x4fs,RFlat``; or ``Exact``.
            ``IVF`` without a number has as many lists as suit the number of vectors.
        metric: How vectors are compared.
        search: Search parameters by name, such as ``{"efSearch": 64}``; each search may override them for itself alone.

    """

    factory: str = "Flat"
    metric: Metric = "ip"
    search: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Index(Protocol):
    """An immutable set of (row number, vector) pairs that can be searched. Searching never changes it."""

    @property
    def spec(self) -> IndexSpec:
        """The recipe it was built from."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Row numbers held, in no promised order."""
        ...

    @property
    def effort(self) -> Mapping[str, int]:
        """Search parameters in use, by name: those of the recipe, or defaults; none where there is nothing to tune."""
        ...

    def __len__(self) -> int:
        """Number of vectors."""
        ...

    def with_effort(self, search: Mapping[str, int]) -> "Index":
        """Return the same index with a recipe of other search parameters. Raises IndexersError."""
        ...

    def search(
        self,
        queries: Float32[np.ndarray, "q dim"],
        k: int,
        *,
        allowed: Int64[np.ndarray, " a"] | None = None,
        search: Mapping[str, int] | None = None,
    ) -> Neighbours:
        """Return the k best rows of each query.

        Args:
            queries: Finite real numbers.
            k: Neighbours per query; where fewer rows exist, the rest is row -1 and score -inf.
            allowed: Row numbers to search among; unknown ones are ignored. Few are searched exactly.
            search: Search parameters for this call alone, over those of the recipe.

        Raises:
            BadVectorsError: Queries of another length, kind or not finite; k below 1.
            IndexersError: A search parameter that the recipe does not have.

        """
        ...

    def save(self, path: Path) -> str:
        """Write it to one file, atomically. Returns the SHA-256 of the file, in hex."""
        ...
