"""The moment by which one content has to be here."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Deadline", "held_to", "in_seconds", "seconds_left"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock."""

    moment: float

    @property
    def left(self) -> float:
        """Seconds until then, 0 once it has passed."""
        return max(0.0, self.moment - time.monotonic())


_current: ContextVar[Deadline | None] = ContextVar("mmrec_deadline", default=None)


def in_seconds(seconds: float) -> Deadline:
    """The moment so many seconds from now."""
    return Deadline(time.monotonic() + seconds)


@contextmanager
def held_to(deadline: Deadline) -> Iterator[None]:
    """Hold all that this thread does on connections to a deadline, whichever connection it is given."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def seconds_left(most: float | None) -> float:
    """How long this thread may wait now: `most`, or what is left until its deadline if that is less."""
    deadline = _current.get()
    left = float("inf") if deadline is None else deadline.left
    return min(left, float("inf") if most is None else most)
