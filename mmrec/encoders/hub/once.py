"""Attributes made at first use by whichever thread comes first, and by no other."""

from functools import cached_property
from threading import RLock
from typing import Any, TypeVar

__all__ = ["once"]

T = TypeVar("T")

# One lock for all: what is made here imports large packages, which two threads must not do at a time.
_MAKING = RLock()


class once(cached_property[T]):  # noqa: N801 -- a decorator, named as those are
    """`functools.cached_property` that decoding threads may share."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:  # noqa: ANN401
        """Return the attribute. Called until it is made; from then on it is an attribute like any other."""
        with _MAKING:
            return super().__get__(instance, owner)
