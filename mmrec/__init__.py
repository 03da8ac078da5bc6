"""Multimodal content embedding, similarity search and recommendation in one vector space."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.engine import Engine
    from mmrec.errors import MmrecError
    from mmrec.events.event import Event
    from mmrec.indexing import Indexing, index_items
    from mmrec.opening import open_store as open  # noqa: A004 - `mmrec.open` reads well and hides nothing outside
    from mmrec.query import Hit, Part, Results
    from mmrec.recommend.answer import Recommendations
    from mmrec.types import Field, Item, Modality, Reject, Space, Waveform

__all__ = [
    "Engine",
    "Event",
    "Field",
    "Hit",
    "Indexing",
    "Item",
    "MmrecError",
    "Modality",
    "Part",
    "Recommendations",
    "Reject",
    "Results",
    "Space",
    "Waveform",
    "index_items",
    "open",
]

_HOMES = {
    "Engine": ("engine", "Engine"),
    "Event": ("events.event", "Event"),
    "Field": ("types", "Field"),
    "Hit": ("query", "Hit"),
    "Indexing": ("indexing", "Indexing"),
    "Item": ("types", "Item"),
    "MmrecError": ("errors", "MmrecError"),
    "Modality": ("types", "Modality"),
    "Part": ("query", "Part"),
    "Recommendations": ("recommend.answer", "Recommendations"),
    "Reject": ("types", "Reject"),
    "Results": ("query", "Results"),
    "Space": ("types", "Space"),
    "Waveform": ("types", "Waveform"),
    "index_items": ("indexing", "index_items"),
    "open": ("opening", "open_store"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, there = _HOMES[name]
    return getattr(import_module(f"mmrec.{home}"), there)


def __dir__() -> list[str]:
    return __all__
