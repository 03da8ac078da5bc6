"""What every kind of source gives, before it is made into items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from mmrec.items import Reject

__all__ = ["Reader", "Row", "Unreadable"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that is there but cannot be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row: plain Python values by column; a missing column is a null.

    Attributes:
        number: Number in the whole source, from 0.
        values: What it holds.
        table: The file or dataset that holds the row.
        table_row: Number within `table`, from 0.

    """

    number: int
    values: Mapping[str, object]
    table: Path
    table_row: int


@runtime_checkable
class Reader(Protocol):
    """Rows of one kind of source, in source order, a bounded number of them in memory."""

    @property
    def folder(self) -> Path:
        """Absolute folder that relative media paths start from."""
        ...

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Columns in order, with the type that holds all their values."""
        ...

    @property
    def count(self) -> int | None:
        """Number of rows, where it is known."""
        ...

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read these columns of every row; a row that cannot be read gives a Reject, and the rest goes on."""
        ...
