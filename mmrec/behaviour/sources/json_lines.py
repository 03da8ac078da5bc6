"""Events as one JSON object a line."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmrec.behaviour.raw import RawEvents, Refusal
from mmrec.behaviour.sources.lines import LONGEST_LINE, LineTooLong, line_chunks
from mmrec.behaviour.sources.protocol import ROWS_PER_CHUNK
from mmrec.errors import UsageError

__all__ = ["JsonLinesFile", "open_json_lines"]

_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class JsonLinesFile:
    """A file of JSON Lines; rows are numbered by line, from 0, and blank lines skipped."""

    path: Path
    names: tuple[str, ...]

    @property
    def count(self) -> None:
        """Not known without reading it all."""
        return

    def chunks(self, names: Sequence[str]) -> Iterator[RawEvents]:
        """Read these keys of all lines; a key that a line lacks is a null."""
        first = 0
        for lines in line_chunks(self.path, ROWS_PER_CHUNK):
            rows: list[int] = []
            records: list[dict[str, object]] = []
            refused: list[Refusal] = []
            for number, line in enumerate(lines, first):
                record = _record(number, line)
                if isinstance(record, Refusal):
                    refused.append(record)
                elif record is not None:
                    rows.append(number)
                    records.append(record)
            columns = {name: [record.get(name) for record in records] for name in names}
            yield RawEvents(np.array(rows, dtype=np.int64), columns, tuple(refused))
            first += len(lines)


def open_json_lines(path: Path) -> JsonLinesFile:
    """Open a file, taking its columns from the first 1,000 lines. Raises UsageError where none is an object."""
    names: dict[str, None] = {}
    for line in next(line_chunks(path, _LOOKED_AT), []):
        record = _record(0, line)
        if isinstance(record, dict):
            names |= dict.fromkeys(record)
    if not names:
        raise UsageError(f"{path.name} begins with no JSON object: write one a line, as {{'user': 'u1', 'item': ...}}.")
    return JsonLinesFile(path, tuple(names))


def _record(number: int, line: bytes) -> dict[str, object] | Refusal | None:
    if isinstance(line, LineTooLong):
        return Refusal(number, "", f"The line is longer than {LONGEST_LINE:,} bytes.")
    if line.isspace():
        return None
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        return Refusal(number, "", f"The line is not UTF-8 (byte {error.start}).")
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
        return Refusal(number, "", f"The line is not JSON: {reason}.")
    return value if isinstance(value, dict) else Refusal(number, "", "The line is JSON, but not an object.")
