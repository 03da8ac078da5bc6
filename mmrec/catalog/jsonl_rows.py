"""Rows of a JSON Lines file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from mmrec.catalog.column_types import ColumnTypes
from mmrec.catalog.json_objects import parse_object
from mmrec.catalog.places import Place
from mmrec.catalog.rows import Row
from mmrec.catalog.scalars import type_of_value
from mmrec.errors import UsageError
from mmrec.items import Reject

__all__ = ["open_jsonl"]

_LONGEST_LINE: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _JsonLines:
    path: Place
    found: ColumnTypes
    count: int

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        return self.found.types

    @property
    def folder(self) -> Place:
        return self.path.parent

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        for record in _records(self.path):
            if isinstance(record, Reject):
                yield record
            else:
                number, values = record
                yield Row(number, {name: values.get(name) for name in names}, _where(self.path, number))


def open_jsonl(path: Place) -> _JsonLines:
    """Open a file of one JSON object a line, reading it through once for its columns and their types.

    Rows are numbered by line, from 1; blank lines are skipped. Raises UsageError where no line is an object.
    """
    found = ColumnTypes()
    count = 0
    for record in _records(path):
        count += 1
        if not isinstance(record, Reject):
            number, values = record
            typed = ((name, value, type_of_value(value)) for name, value in values.items())
            found.take(typed, _where(path, number))
    if not found.types:
        raise UsageError(f"{path.name} has no JSON object in it: write one object a line, such as {{'id': 1, ...}}.")
    return _JsonLines(path, found, count)


def _records(path: Place) -> Iterator[tuple[int, dict[str, object]] | Reject]:
    with path.open() as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield Reject(number, None, "", f"It is longer than {_LONGEST_LINE:,} bytes.", _where(path, number))
            elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                try:
                    yield number, parse_object(line)
                except ValueError as error:
                    yield Reject(number, None, "", str(error), _where(path, number))


def _where(path: Place, number: int) -> str:
    return f"{path.name} line {number}"
