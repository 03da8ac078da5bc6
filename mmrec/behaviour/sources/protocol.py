"""What every kind of event file gives."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from mmrec.behaviour.raw import RawEvents

__all__ = ["ROWS_PER_CHUNK", "EventFile"]

ROWS_PER_CHUNK = 32_768
"""Large enough for work by column to pay, small enough that a chunk stays within tens of megabytes."""


@runtime_checkable
class EventFile(Protocol):
    """Rows of one file in their order, by column, a bounded number of them in memory."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    @property
    def count(self) -> int | None:
        """Number of rows, where it is known."""
        ...

    def chunks(self, names: Sequence[str]) -> Iterator[RawEvents]:
        """Read these columns of all rows; a row that cannot be read is refused, and the rest goes on."""
        ...
