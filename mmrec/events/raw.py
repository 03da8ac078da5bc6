"""Rows of an event file before validation: raw columns, rejected rows, and the protocol of event file readers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

__all__ = ["ROWS_PER_CHUNK", "Column", "EventFile", "RawEvents", "Refusal"]


Column: TypeAlias = pa.Array | list[object]
"""Values of one column as their source had them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that is not taken into the log: what the quarantine of events keeps.

    Attributes:
        row: Number of the source row, from 0.
        column: The column concerned; empty when the whole row is.
        reason: One sentence that a person can act on.
        user: Who it was about, where that could be read, so that forgetting them reaches this too.
        count: How many rows from this one on, where a part of a file is damaged.

    """

    row: int
    column: str
    reason: str
    user: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class RawEvents:
    """A few thousand rows of a source.

    Attributes:
        rows: Numbers of the source rows, from 0, ascending.
        columns: Values by the source's column names, as many as rows.
        refused: Rows between them that could not even be read.

    """

    rows: Int64[np.ndarray, " n"]
    columns: Mapping[str, Column]
    refused: tuple[Refusal, ...] = ()

    @property
    def read(self) -> int:
        """Rows met, those that could not be read included."""
        return len(self.rows) + sum(one.count for one in self.refused)


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
