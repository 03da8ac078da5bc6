"""Behaviour: what people did, kept in a log, cleaned, and read as histories."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.events.cleaning import Cleaning, CleaningReport, clean
    from mmrec.events.event import Event
    from mmrec.events.histories import Histories, KnownItems
    from mmrec.events.kinds import Kinds
    from mmrec.events.log import EventLog, open_log

__all__ = ["Cleaning", "CleaningReport", "Event", "EventLog", "Histories", "Kinds", "KnownItems", "clean", "open_log"]

_HOMES = {
    "Cleaning": "cleaning",
    "CleaningReport": "cleaning",
    "Event": "event",
    "EventLog": "log",
    "Histories": "histories",
    "Kinds": "kinds",
    "KnownItems": "known_items",
    "clean": "cleaning",
    "open_log": "log",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.events.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
