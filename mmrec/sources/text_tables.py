"""Rows of text tables: CSV and other delimited text, JSON Lines, and the character encodings of such files."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, AnyStr, BinaryIO, ClassVar, Final, cast

import pyarrow as pa
from charset_normalizer import from_bytes

from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnTypes
from mmrec.sources.places import Place
from mmrec.sources.rows import Row
from mmrec.sources.scalars import type_of_cell, type_of_value
from mmrec.types import Reject

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE: Final = 256 * 1024
_ACCENTS: Final = re.compile(r"[^\x00-\x7f\s]+")
_IN_A_ROW: Final = 0.3


def _encoding(path: Place, given: str | None) -> str:
    """How a file is read: as given, else by its byte order mark, else as UTF-8. Raises UsageError for no encoding."""
    if given is not None:
        try:
            "".encode(given)
        except LookupError as error:
            raise UsageError(
                f"There is no encoding {given!r}; name one such as utf-8, windows-1252, utf-16."
            ) from error
        return given
    with path.open() as file:
        head = file.read(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")


def _likely_encoding(sample: bytes) -> str | None:
    # Western languages have single accents among plain letters; other scripts have runs of such characters.
    western = sample.decode("cp1252", "replace")
    accents = [found[0] for found in _ACCENTS.finditer(western)]
    rows = sum(len(row) for row in accents if len(row) > 2)
    if accents and "\ufffd" not in western and rows <= _IN_A_ROW * sum(map(len, accents)):
        return "windows-1252"
    found = from_bytes(sample).best()
    return None if found is None or found.encoding in {"utf_8", "ascii"} else found.encoding.replace("_", "-")


def _lines(readline: Callable[[int], AnyStr], longest: int, ends: tuple[AnyStr, ...]) -> Iterator[AnyStr | None]:
    """Give the lines of a file with their ends; None for one that is longer than it may be."""
    while line := readline(longest):
        if len(line) < longest or line.endswith(ends):
            yield line
            continue
        while (rest := readline(longest)) and not rest.endswith(ends):
            pass
        yield None


@dataclass(frozen=True)
class TextTable:
    """A text file of one record after the other. It is read through at the first use of types or counts."""

    path: Place
    header: tuple[str, ...] = ()
    type_of: ClassVar[Callable[..., pa.DataType]]

    @property
    def folder(self) -> Place:
        """Folder that relative media paths start from."""
        return self.path.parent

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, found without reading all of the file."""
        return self.header

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """Columns in order, with the type that holds all their values."""
        return self.found.types

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._read_through[1]

    @property
    def found(self) -> ColumnTypes:
        """Types of the columns, and what decided them."""
        return self._read_through[0]

    @cached_property
    def _read_through(self) -> tuple[ColumnTypes, int]:
        found, count = ColumnTypes(dict.fromkeys(self.header, pa.null())), 0
        for _, line, record in self.records():
            count += 1
            if not isinstance(record, str):
                typed = ((k, v, self.type_of(v)) for k, v in record.items() if not found.is_settled(k))
                found.add_row(typed, self._where(line))
        return found, count

    def records(self) -> Iterator[tuple[int, int, Mapping[str, object] | str]]:
        """Give each record's number and first line, both from 1, and its values, or why it cannot be read."""
        raise NotImplementedError

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Read these columns of every row."""
        for number, line, record in self.records():
            if isinstance(record, str):
                yield self._reject(number, line, record)
            else:
                yield Row(number, {name: record.get(name) for name in names}, self._where(line))

    def columns(
        self, names: Sequence[str], size: int
    ) -> Iterator[tuple[list[int], dict[str, list[object]], list[Reject]]]:
        """Read so many records at a time: numbers and columns of the rows, and those that cannot be read."""
        records = self.records()
        while some := list(islice(records, size)):
            rows = [(number, record) for number, _, record in some if not isinstance(record, str)]
            yield (
                [number for number, _ in rows],
                {name: [record.get(name) for _, record in rows] for name in names},
                [self._reject(number, line, why) for number, line, why in some if isinstance(why, str)],
            )

    def _reject(self, number: int, line: int, reason: str) -> Reject:
        return Reject(number, None, "", reason, self._where(line))

    def _where(self, line: int) -> str:
        return f"{self.path.name} line {line}"


_LONGEST_CELL: Final = 16 * 1024 * 1024
_LINE_ENDS: Final = ("\n", "\r")
_LINES_AT_ONCE: Final = 4096
_CHARACTERS_AT_ONCE: Final = 1024 * 1024
_MOST_LINES: Final = 4096  # of one record; a longer text in quotes is a quote that was never closed
_OPEN: Final = "A quote is opened and not closed."


@dataclass(frozen=True)
class DelimitedTable(TextTable):
    """A file of delimited text.

    Attributes:
        header: Names of the columns.
        delimiter: Between cells; more than one letter is allowed where nothing is quoted.
        header_lines: Number of lines before the first record.
        quoted: Whether cells may stand in double quotes, and then hold delimiters and line breaks.
        encoding: As a user named it; None for UTF-8, or what a byte order mark says.
        strict: If false, a line with stray quotes is read leniently.

    """

    delimiter: str = ","
    header_lines: int = 1
    quoted: bool = True
    encoding: str | None = None
    strict: bool = False
    type_of = staticmethod(type_of_cell)

    def records(self) -> Iterator[tuple[int, int, Mapping[str, object] | str]]:
        """Give each record's number and first line, both from 1, and its cells, or why it cannot be read."""
        # The module's own limit of 131,072 characters is process-wide; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        number, line, not_read = 0, 1 + self.header_lines, ""
        texts = islice(_text_lines(self.path, _encoding(self.path, self.encoding)), self.header_lines, None)
        waiting: list[str | None] = []
        is_last = False
        while not is_last:
            block = _block(texts)
            is_last, waiting = not block, waiting + block
            done = 0
            plain = self._parse_fast(waiting)
            for record in plain or ():
                number += 1
                yield number, line + done, dict(zip(self.header, record, strict=True))
                done += 1
            for cells, span in () if plain else self._parse_slow(waiting, is_last=is_last):
                number += bool(cells)
                if isinstance(cells, str):
                    yield number, line + done, cells
                elif any(map(_is_broken, cells)):
                    not_read = not_read or self.why_not_read()
                    yield number, line + done, not_read
                elif len(cells) == len(self.header):
                    yield number, line + done, dict(zip(self.header, cells, strict=True))
                elif cells:
                    reason = f"The line has {len(cells)} cells where the header has {len(self.header)}."
                    yield number, line + done, reason
                done += span
            waiting, line = waiting[done:], line + done

    def why_not_read(self) -> str:
        """Say why a line is not of the file's encoding, and which encoding would read it."""
        used = _encoding(self.path, self.encoding)
        if self.encoding is not None or used != "utf-8-sig":
            return f"The line is not {used}. Name the right encoding with --encoding."
        with self.path.open() as file:
            likely = _likely_encoding(file.read(_SAMPLE))
        hint = "" if likely is None else f" It can be read as {likely}: add --encoding {likely}."
        return f"The line is not UTF-8.{hint}"

    def _parse_fast(self, lines: Sequence[str | None]) -> list[list[str]] | None:
        """Read records of one line each; None if anything is odd about any of them."""
        if None in lines:
            return None
        texts = cast("Sequence[str]", lines)
        try:
            "".join(texts).encode()  # fails where some bytes were not of the file's encoding
            records = list(self._reader(texts) if self.quoted else map(self._split, texts))
        except (csv.Error, UnicodeEncodeError):
            return None
        is_plain = len(records) == len(lines) and all(len(cells) == len(self.header) for cells in records)
        return records if is_plain else None

    def _parse_slow(self, lines: Sequence[str | None], *, is_last: bool) -> Iterator[tuple[list[str] | str, int]]:
        """Read records, and the number of lines of each, until one that may go on in the lines to come."""
        at = 0
        while at < len(lines):
            cells, span = self._record(lines, at)
            if not span and not is_last and len(lines) - at < _MOST_LINES:
                return
            yield cells, span or 1
            at += span or 1

    def _record(self, lines: Sequence[str | None], at: int) -> tuple[list[str] | str, int]:
        """The cells of the record that begins at a line, or what is wrong with it; no lines where a quote is open."""
        line = lines[at]
        if line is None:
            return f"The line is longer than {_LONGEST_CELL:,} characters.", 1
        if not line.strip(" \r\n"):
            return [], 1
        return self._quoted_record(line, _from(lines, at)) if self.quoted else (self._split(line), 1)

    def _quoted_record(self, line: str, lines: Iterator[str]) -> tuple[list[str] | str, int]:
        reader = self._reader(lines)
        try:
            cells = next(reader)
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return _OPEN, 0
            lenient = [] if self.strict or reader.line_num > 1 else next(csv.reader([line], delimiter=self.delimiter))
            if len(lenient) == len(self.header):
                return lenient, 1
            return (_OPEN if reader.line_num > 1 else f"The line is not CSV: {error}."), 1
        is_open = reader.line_num > 1 and len(cells) != len(self.header)
        return (_OPEN, 1) if is_open else (cells, reader.line_num)

    def _reader(self, lines: Iterable[str]) -> Any:  # noqa: ANN401 - the module does not name its class
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _split(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self.delimiter)


def _text_lines(path: Place, encoding: str) -> Iterator[str | None]:
    with (
        path.open() as data,
        io.TextIOWrapper(cast(BinaryIO, data), encoding, errors="surrogateescape", newline="") as file,
    ):
        yield from _lines(file.readline, _LONGEST_CELL, _LINE_ENDS)


def _block(lines: Iterator[str | None]) -> list[str | None]:
    """The next lines: enough to be read fast at once, few enough to be held in memory."""
    block: list[str | None] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line or "")
        if len(block) >= _LINES_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            break
    return block


def _from(lines: Sequence[str | None], at: int) -> Iterator[str]:
    while at < len(lines) and (line := lines[at]) is not None:
        yield line
        at += 1


def _is_broken(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell)


def open_csv(path: Place, encoding: str | None = None) -> DelimitedTable:
    """Open a CSV file with a header.

    The delimiter is whichever of comma, semicolon and tab the header has most of. Cells are text as written, so an id
    such as 00123 keeps its zeros. `encoding` is UTF-8 if not given, or what a byte order mark says. Raises UsageError
    if the header is missing, of another encoding, or names a column twice.
    """
    used = _encoding(path, encoding)
    try:
        first = next(_text_lines(path, used), None) or ""
        delimiter = max(",;\t", key=first.count)
        lines = csv.reader((line or "" for line in _text_lines(path, used)), delimiter=delimiter)
        header = next(lines, [])
    except UnicodeError as error:
        raise UsageError(f"The header of {path.name} is not {used}: {error}.") from error
    except csv.Error as error:
        raise UsageError(f"The header of {path.name} cannot be read: {error}.") from error
    if not header:
        raise UsageError(f"{path.name} is empty: its first line must name the columns.")
    names = tuple(name.strip() or f"column {number}" for number, name in enumerate(header, 1))
    table = DelimitedTable(path, names, delimiter, lines.line_num, encoding=encoding)
    if any(map(_is_broken, header)):
        raise UsageError(f"The header of {path.name} cannot be read. {table.why_not_read()}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"The header of {path.name} names {twice[0]!r} more than once: rename one.")
    return table


_RATINGS: Final = ("user", "item", "rating", "timestamp")


def open_movielens(path: Place) -> DelimitedTable:
    """Open MovieLens's ``u.data`` or ``ratings.dat``, which have no header."""
    return DelimitedTable(path, _RATINGS, "\t" if path.name == "u.data" else "::", 0, quoted=False)


def open_recbole(path: Place) -> DelimitedTable:
    """Open a RecBole atomic file: tabs between cells, and a header of ``name:type``. Raises UsageError for another."""
    header = (next(_text_lines(path, "utf-8-sig"), None) or "").rstrip("\r\n").split("\t")
    if any(cell.rpartition(":")[2] not in {"token", "token_seq", "float", "float_seq"} for cell in header):
        raise UsageError(f"The header of {path.name} is not RecBole's: it names columns as user_id:token, with tabs.")
    return DelimitedTable(path, tuple(cell.rpartition(":")[0] for cell in header), "\t", quoted=False)


def parse_object(data: bytes) -> dict[str, object]:
    """Return a JSON object. Raises ValueError with one sentence where the bytes are none."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        msg = f"It is not UTF-8 (byte {error.start})."
    except UnicodeEncodeError:
        msg = "It has an escape (\\ud800 to \\udfff) that is half a character."
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
        msg = f"It is not JSON: {reason}."
    else:
        if isinstance(value, dict):
            return value
        msg = f"It is a JSON {type(value).__name__}, not an object."
    raise ValueError(msg)


_LONGEST_LINE: Final = 64 * 1024 * 1024
_ROWS_FOR_NAMES: Final = 1000


@dataclass(frozen=True)
class JsonLines(TextTable):
    """A file of one JSON object per line; blank lines are skipped, and counted."""

    type_of = staticmethod(type_of_value)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that the first 1,000 lines have. Raises UsageError if no line is an object."""
        objects = (record for _, _, record in islice(self.records(), _ROWS_FOR_NAMES) if not isinstance(record, str))
        found = tuple(dict.fromkeys(name for record in objects for name in record)) or tuple(self.types)
        if not found:
            raise UsageError(f"{self.path.name} has no JSON object in it: one per line, such as {{'id': 1, ...}}.")
        return found

    def records(self) -> Iterator[tuple[int, int, Mapping[str, object] | str]]:
        """Give each line's number, twice, and its object, or why it is none."""
        with self.path.open() as file:
            for number, line in enumerate(_lines(file.readline, _LONGEST_LINE, (b"\n",)), 1):
                if line is None:
                    yield number, number, f"It is longer than {_LONGEST_LINE:,} bytes."
                elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                    try:
                        yield number, number, parse_object(line)
                    except ValueError as error:
                        yield number, number, str(error)
