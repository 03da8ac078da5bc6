"""What an index is: vectors and row numbers in, neighbours out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from indexers.types import IndexSpec, Neighbours

__all__ = ["Index"]


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
        """Return the k best rows of each query, among `allowed` row numbers if given. Raises BadVectorsError."""
        ...

    def vectors_of(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        """Return vectors by row number as it holds them, decoded where it holds codes. Raises BadVectorsError."""
        ...

    def save(self, path: Path) -> str:
        """Write it to one file, atomically. Returns the SHA-256 of the file, in hex."""
        ...
