"""The one place that imports FAISS."""

import functools
import importlib.metadata
from typing import Any, TypeAlias

import faiss as _faiss

from indexers.types import IndexersError

__all__ = ["Native", "check_installation", "faiss"]

Native: TypeAlias = Any
"""An object of FAISS."""

# The type stubs that FAISS ships lack half of its classes and misdescribe some of the rest.
faiss: Native = _faiss

PACKAGES = ("faiss-gpu", "faiss-cpu", "faiss-gpu-cuvs")
"""Packages that all own the module `faiss` and overwrite each other's files."""


@functools.cache
def check_installation() -> None:
    """Raise IndexersError if more than one package owns the module `faiss`."""
    installed = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    owners = [name for name in PACKAGES if name in installed]
    if len(owners) > 1:
        raise IndexersError(
            f"{' and '.join(owners)} are installed together and overwrite each other's module faiss; one is allowed. "
            f"Uninstall them all, then install one: pip uninstall {' '.join(owners)}"
        )
