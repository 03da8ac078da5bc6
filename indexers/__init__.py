"""Vector indexes: vectors and row numbers in, neighbours out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexers.exact import ExactIndex
    from indexers.faiss_index import FaissIndex
    from indexers.live import LiveIndex
    from indexers.protocol import (
        BadVectorsError,
        Index,
        IndexersError,
        IndexFileError,
        IndexSpec,
        Metric,
        Neighbours,
    )
    from indexers.recipes import build, default_spec, load

__all__ = [
    "BadVectorsError",
    "ExactIndex",
    "FaissIndex",
    "Index",
    "IndexFileError",
    "IndexSpec",
    "IndexersError",
    "LiveIndex",
    "Metric",
    "Neighbours",
    "build",
    "default_spec",
    "load",
]

_MODULES = {
    "ExactIndex": "exact",
    "FaissIndex": "faiss_index",
    "LiveIndex": "live",
    "build": "recipes",
    "default_spec": "recipes",
    "load": "recipes",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of the name
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"indexers.{_MODULES.get(name, 'protocol')}"), name)


def __dir__() -> list[str]:
    return __all__
