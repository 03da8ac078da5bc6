"""Multimodal content embedding, similarity search and recommendation in one vector space."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.encoders.presets import load_encoders
    from mmrec.errors import MmrecError
    from mmrec.events.event import Event
    from mmrec.examples import fetch_stamps, ml_100k_folder, write_films, write_stamps
    from mmrec.finetuning.config import FinetuneConfig
    from mmrec.indexing import Indexing, index_items
    from mmrec.jobs.index_options import IndexOptions, IndexSummary
    from mmrec.query import Hit, Part, Results
    from mmrec.recommend.answer import Recommendations
    from mmrec.reporting import Reporter
    from mmrec.storage.collect import Policy
    from mmrec.store import Store
    from mmrec.store import create_store as create
    from mmrec.store import open_store as open  # noqa: A004 - `mmrec.open` reads well and hides nothing outside
    from mmrec.training.config import TrainingConfig
    from mmrec.types import Field, Item, Modality, Reject, Space, Waveform

__all__ = [
    "Event",
    "Field",
    "FinetuneConfig",
    "Hit",
    "IndexOptions",
    "IndexSummary",
    "Indexing",
    "Item",
    "MmrecError",
    "Modality",
    "Part",
    "Policy",
    "Recommendations",
    "Reject",
    "Reporter",
    "Results",
    "Space",
    "Store",
    "TrainingConfig",
    "Waveform",
    "create",
    "fetch_stamps",
    "index_items",
    "load_encoders",
    "ml_100k_folder",
    "open",
    "write_films",
    "write_stamps",
]

_MODULES = {
    "encoders.presets": ("load_encoders",),
    "errors": ("MmrecError",),
    "events.event": ("Event",),
    "examples": ("fetch_stamps", "ml_100k_folder", "write_films", "write_stamps"),
    "finetuning.config": ("FinetuneConfig",),
    "indexing": ("Indexing", "index_items"),
    "jobs.index_options": ("IndexOptions", "IndexSummary"),
    "query": ("Hit", "Part", "Results"),
    "recommend.answer": ("Recommendations",),
    "reporting": ("Reporter",),
    "storage.collect": ("Policy",),
    "store": ("Store", "create", "open"),
    "training.config": ("TrainingConfig",),
    "types": ("Field", "Item", "Modality", "Reject", "Space", "Waveform"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
_OTHER_NAMES = {"create": "create_store", "open": "open_store"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.{_HOMES[name]}"), _OTHER_NAMES.get(name, name))


def __dir__() -> list[str]:
    return __all__
