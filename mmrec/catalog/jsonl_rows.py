"""Rows of a JSON Lines file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from mmrec.catalog.rows import Row
from mmrec.catalog.scalars import type_of_value, widen
from mmrec.errors import UsageError
from mmrec.items import Reject

__all__ = ["open_jsonl"]

_LONGEST_LINE: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _JsonLines:
    path: Path
    types: Mapping[str, pa.DataType]
    count: int

    @property
    def folder(self) -> Path:
        return self.path.parent

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        for record in _records(self.path):
            if isinstance(record, Reject):
                yield record
            else:
                number, values = record
                yield Row(number, {name: values.get(name) for name in names}, self.path, number)


def open_jsonl(path: Path) -> _JsonLines:
    """Open a file of one JSON object a line, reading it through once for its columns and their types.

    Rows are numbered by line, from 0; blank lines are skipped. Raises UsageError where no line is an object.
    """
    types: dict[str, pa.DataType] = {}
    count = 0
    for record in _records(path):
        count += 1
        if not isinstance(record, Reject):
            widen(types, ((name, type_of_value(value)) for name, value in record[1].items()))
    if not types:
        raise UsageError(f"{path.name} has no JSON object in it: write one object a line, such as {{'id': 1, ...}}.")
    return _JsonLines(path, types, count)


def _records(path: Path) -> Iterator[tuple[int, dict[str, object]] | Reject]:
    with path.open("rb") as file:
        number = -1
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield Reject(number, None, "", f"The line is longer than {_LONGEST_LINE:,} bytes.")
            elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                yield _parsed(number, line)


def _parsed(number: int, line: bytes) -> tuple[int, dict[str, object]] | Reject:
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 0 else "utf-8"))
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return Reject(number, None, "", f"The line is not UTF-8 (byte {error.start}).")
    except UnicodeEncodeError:
        return Reject(number, None, "", "The line has an escape (\\ud800 to \\udfff) that is half a character.")
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
        return Reject(number, None, "", f"The line is not JSON: {reason}.")
    if not isinstance(value, dict):
        return Reject(number, None, "", f"The line is a JSON {type(value).__name__}, not an object.")
    return number, value
