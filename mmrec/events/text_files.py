"""Read events from text files: CSV and other delimited text (MovieLens, RecBole), and JSON Lines."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mmrec.errors import UsageError
from mmrec.sources.text_tables import chosen_encoding, not_utf8, wrong_encoding

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


LONGEST_LINE: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class LineTooLong(bytes):
    """The beginning of a line that is longer than any event; the rest of it has been passed over."""

    __slots__ = ()


def line_chunks(path: Path, size: int, encoding: str = "utf-8-sig") -> Iterator[list[bytes]]:
    """Read lines with their ends, `size` at a time, in UTF-8 whatever `encoding` they are in; without their mark.

    A line that is not of that encoding is not UTF-8 either when it is given.
    """
    if encoding not in {"utf-8-sig", "utf-8"}:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as text:
            lines = _recoded(text)
            while chunk := list(islice(lines, size)):
                yield chunk
        return
    with path.open("rb") as file:
        if file.peek(3)[:3] == _BOM:
            file.seek(3)
        lines = _lines(file)
        while chunk := list(islice(lines, size)):
            yield chunk


def _recoded(file: TextIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        data = line.encode("utf-8", "surrogateescape")
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            yield data
            continue
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith("\n"):
            pass
        yield LineTooLong(data[:64])


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield LineTooLong(line[:64])


_MOST_LINES: Final = 32  # of one record; a longer text in quotes is a quote that was never closed
_OPEN: Final = "A quote is opened and not closed."


@dataclass(slots=True)
class _Records:
    """What some lines hold; `used` of them are done with."""

    rows: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    used: int = 0


@dataclass(frozen=True, slots=True)
class DelimitedFile:
    """A text file of one event a line.

    Attributes:
        path: Where it is.
        names: Names of the columns, in order.
        delimiter: What stands between cells; more than one letter is allowed where nothing is quoted.
        header: Whether the first line names the columns.
        quoted: Whether cells may stand in double quotes, and then hold delimiters and line breaks.
        encoding: As a person named it; None for UTF-8, or what a byte order mark says.

    """

    path: Path
    names: tuple[str, ...]
    delimiter: str = ","
    header: bool = True
    quoted: bool = True
    encoding: str | None = None

    @property
    def count(self) -> None:
        """Not known without reading it all."""
        return

    def chunks(self, names: Sequence[str]) -> Iterator[RawEvents]:
        """Read these columns of all rows; rows are numbered from 0, header and blank lines not counted."""
        places = {name: self.names.index(name) for name in names}
        row, line, waiting = 0, 1, list[bytes]()
        # The empty chunk at the end says that no more lines follow an open quote.
        for number, read in enumerate(
            chain(line_chunks(self.path, ROWS_PER_CHUNK, _encoding(self.path, self.encoding)), [[]])
        ):
            fresh = read[1:] if self.header and number == 0 else read
            line += len(read) - len(fresh)
            lines = waiting + fresh
            found = self._all_at_once(lines, row) or self._one_by_one(lines, row, line, final=not read)
            waiting = lines[found.used :]
            line += found.used
            row += len(found.rows) + len(found.refused)
            columns = list(zip(*found.cells, strict=True)) or [()] * len(self.names)
            chosen = {name: list[object](columns[place]) for name, place in places.items()}
            yield RawEvents(np.array(found.rows, dtype=np.int64), chosen, tuple(found.refused))

    def _all_at_once(self, lines: list[bytes], row: int) -> _Records | None:
        """The cells of all lines, where nothing at all is wrong with any of them."""
        if any(isinstance(line, LineTooLong) for line in lines):
            return None
        try:
            texts = [line.decode() for line in lines]
            cells = self._reader(texts) if self.quoted else [self._split(text) for text in texts]
        except (UnicodeDecodeError, csv.Error):
            return None
        if len(cells) != len(lines) or any(len(record) != len(self.names) for record in cells):
            return None
        return _Records(list(range(row, row + len(cells))), cells, used=len(lines))

    def _one_by_one(self, lines: list[bytes], row: int, line: int, *, final: bool) -> _Records:
        """The cells of each record, and what is wrong with those that have something wrong."""
        found = _Records()
        while found.used < len(lines):
            record, span = self._record(lines[found.used : found.used + _MOST_LINES])
            if record is _OPEN and not final and len(lines) - found.used < _MOST_LINES:
                break  # the rest of the record may come with the next lines
            number = row + len(found.rows) + len(found.refused)
            if isinstance(record, list) and record and len(record) != len(self.names):
                record = f"The line has {len(record)} cells, not {len(self.names)}."
            if isinstance(record, str):
                found.refused.append(Refusal(number, "", f"Line {line + found.used}: {record}"))
            elif record:
                found.rows.append(number)
                found.cells.append(record)
            found.used += span
        return found

    def _record(self, lines: list[bytes]) -> tuple[list[str] | str, int]:
        """The cells of the record that begins here or what is wrong with it, and the number of its lines."""
        text = ""
        for span, line in enumerate(lines, 1):
            if isinstance(line, LineTooLong):
                return (_OPEN if text else f"The line is longer than {LONGEST_LINE:,} bytes."), 1
            try:
                text += line.decode()
                cells = self._cells(text)
            except UnicodeDecodeError as error:
                return (_OPEN if text else f"{self._unread()} (byte {error.start})"), 1
            except csv.Error as error:
                return (_OPEN if span > 1 else f"The line is not CSV: {error}."), 1
            if cells is not None and (span == 1 or len(cells) == len(self.names)):
                return cells, span
        return _OPEN, 1

    def _unread(self) -> str:
        if self.encoding is not None:
            return wrong_encoding(self.encoding)
        with self.path.open("rb") as file:
            return not_utf8(file)

    def _cells(self, text: str) -> list[str] | None:
        """The cells of one record; None where a quote is still open, none where it is blank."""
        if text.isspace():
            return []
        if not self.quoted:
            return self._split(text)
        try:
            return self._reader([text])[0]
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
            raise

    def _reader(self, texts: list[str]) -> list[list[str]]:
        return list(csv.reader(texts, delimiter=self.delimiter, strict=True))

    def _split(self, text: str) -> list[str]:
        return text.rstrip("\r\n").split(self.delimiter)


def _encoding(path: Path, given: str | None) -> str:
    with path.open("rb") as file:
        return chosen_encoding(file, given)


def open_csv_events(path: Path, encoding: str | None = None) -> DelimitedFile:
    """Open a file whose first line names the columns; between them are commas, semicolons or tabs, whichever are most.

    Raises UsageError where the header is missing, cannot be read, or names a column twice.
    """
    first = next(line_chunks(path, 1, _encoding(path, encoding)), [b""])[0]
    try:
        text = first.decode()
        delimiter = max(",;\t", key=text.count)
        names = tuple(name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True), []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"The header of {path.name} cannot be read: {error}.") from error
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice or len(names) < 3:
        trouble = f"names {twice[0]!r} more than once" if twice else "does not name three columns"
        raise UsageError(f"The header of {path.name} {trouble}; it must name user, item and time at least.")
    return DelimitedFile(path, names, delimiter, encoding=encoding)


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
