"""A page to look at: results with pictures, texts and players, in one file that needs nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.contact_sheet import Section as Section
    from pipelines.contact_sheet import write_sheet as write_sheet

__all__ = ["Section", "write_sheet"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 a face hands on whatever is named
    if name in __all__:
        return getattr(import_module("pipelines.contact_sheet"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
