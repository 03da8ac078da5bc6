"""What every kind of source gives, before it is made into items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa

from mmrec.sources.places import Place
from mmrec.types import Reject

__all__ = ["Blob", "Reader", "Row", "Unreadable"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that is there but cannot be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Stands for the bytes of a picture or sound that have an address of their own.

    Attributes:
        uri: Where they are.
        data: The bytes, where the source had to read them anyway.

    """

    uri: str
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: plain Python values by column; a missing column is a null.

    Attributes:
        number: Number in the whole source, from 1.
        values: What it holds.
        where: File and line, row or member that it is, for messages: ``catalog.csv line 5``.
        table: Address of the file or dataset that holds the row, where its cells have addresses.
        table_row: Place within `table`, from 0.
        unread: Parts of the row that could not be read, by name, and why; the row lives on without them.

    """

    number: int
    values: Mapping[str, object]
    where: str
    table: str | None = None
    table_row: int = 0
    unread: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Reader(Protocol):
    """Rows of one kind of source, in source order, a bounded number of them in memory."""

    @property
    def folder(self) -> Place:
        """Folder that relative media paths start from."""
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
