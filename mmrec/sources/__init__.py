"""Catalogs: sources to items, and what their contents are."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.decoding.limits import Limits
    from mmrec.sources.columns import ColumnSpec
    from mmrec.sources.guess import guess_columns
    from mmrec.sources.media_access import MediaAccess, content_hash, decode
    from mmrec.sources.source import CatalogSource, open_source

__all__ = [
    "CatalogSource",
    "ColumnSpec",
    "Limits",
    "MediaAccess",
    "content_hash",
    "decode",
    "guess_columns",
    "open_source",
]

_HOMES = {
    "ColumnSpec": "columns",
    "Limits": "limits",
    "MediaAccess": "media_access",
    "Source": "source",
    "content_hash": "media",
    "decode": "media",
    "guess_columns": "guess",
    "open_source": "source",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.sources.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
