"""Helpers for hub encoders: load once, explain a library's error, place a joint model's modalities in one space."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from threading import RLock
from typing import Any, TypeVar

from mmrec.errors import EncoderError, MmrecError, UsageError
from mmrec.types import Modality, Space

__all__ = ["check_items", "explained", "once", "shared_space"]


T = TypeVar("T")

# One lock for all: what is made here imports large packages, which two threads must not do at a time.
_MAKING = RLock()


class once(cached_property[T]):  # noqa: N801 -- a decorator, named as those are
    """`functools.cached_property` that decoding threads may share."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:  # noqa: ANN401
        """Return the attribute. Called until it is made; from then on it is an attribute like any other."""
        with _MAKING:
            return super().__get__(instance, owner)


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Raise EncoderError where a library raises: "`what` cannot be loaded", its first line, and the advice."""
    try:
        yield
    except (MmrecError, MemoryError):
        raise
    except Exception as error:
        # Whatever it is: a damaged file makes libraries raise errors of their parsers, their archives and their own.
        raise EncoderError(f"{what} cannot be loaded: {_first_line(error)} {advice}") from error


def _first_line(error: Exception) -> str:
    if type(error).__name__ == "UnpicklingError":  # its own words advise to run the code in the file
        return "the file holds more than tensors, or is damaged; code in it is never run."
    said = (str(error).strip().splitlines() or [""])[0][:300].strip()
    return f"{said or type(error).__name__}{'' if said.endswith(('.', '!', ':')) else '.'}"


def check_items(items: Sequence[str] | None, able: Sequence[Modality]) -> None:
    """Raise UsageError unless `items` names some of the modalities that a model is able to read."""
    if items is not None and (isinstance(items, str) or not items or not set(items) <= set(able)):
        raise UsageError(f"items = {items!r} was given; it must be a list of some of {', '.join(able)}.")


def shared_space(
    space: Space, able: Sequence[Modality], items: Sequence[str] | None = None
) -> Mapping[Modality, tuple[Space, ...]]:
    """Return one space for each of the modalities, or only for those in `items`."""
    return {modality: (space,) for modality in able if items is None or modality in items}
