"""Rows of a source before anyone has looked at them, and rows that cannot be used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

__all__ = ["Column", "RawEvents", "Refusal"]

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
