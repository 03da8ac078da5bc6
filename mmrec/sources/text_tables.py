"""Rows of CSV and JSON Lines files, and the character encodings that such files may have."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

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


def chosen_encoding(file: BinaryIO, given: str | None) -> str:
    """Return how a file is read: as given, else by its byte order mark, else as UTF-8. The file is read from.

    Raises UsageError where no encoding is called so.
    """
    if given is not None:
        try:
            "".encode(given)
        except LookupError as error:
            raise UsageError(
                f"There is no encoding {given!r}; name one such as utf-8, windows-1252, utf-16."
            ) from error
        return given
    head = file.read(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")


def not_utf8(file: BinaryIO) -> str:
    """Say why lines of a file cannot be read as UTF-8, and which encoding would read them. The file is read from."""
    likely = _likely(file.read(_SAMPLE))
    hint = "" if likely is None else f" It can be read as {likely}: add --encoding {likely}."
    return f"The line is not UTF-8.{hint}"


def wrong_encoding(encoding: str) -> str:
    """Say that a line is not of the encoding that a person named."""
    return f"The line is not {encoding}. Name the right encoding with --encoding."


def _likely(sample: bytes) -> str | None:
    # Western languages have accents here and there among plain letters; every other script has them in a row.
    western = sample.decode("cp1252", "replace")
    accents = [found[0] for found in _ACCENTS.finditer(western)]
    rows = sum(len(row) for row in accents if len(row) > 2)
    if accents and "\ufffd" not in western and rows <= _IN_A_ROW * sum(map(len, accents)):
        return "windows-1252"
    found = from_bytes(sample).best()
    return None if found is None or found.encoding in {"utf_8", "ascii"} else found.encoding.replace("_", "-")


_LONGEST_CELL: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Form:
    """How the file is written; `given` says whether a person named the encoding."""

    encoding: str
    delimiter: str
    given: bool


@dataclass(frozen=True, slots=True)
class _Csv:
    path: Place
    header: tuple[str, ...]
    form: "_Form"
    found: ColumnTypes
    count: int

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        return self.found.types

    @property
    def folder(self) -> Place:
        return self.path.parent

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        numbers = {name: number for number, name in enumerate(self.header)}
        places = {name: numbers[name] for name in names}
        for record in _csv_records(self.path, self.form, len(self.header)):
            if isinstance(record, Reject):
                yield record
            else:
                number, line, cells = record
                values = {name: cells[place] for name, place in places.items()}
                yield Row(number, values, f"{self.path.name} line {line}")


def open_csv(path: Place, encoding: str | None = None) -> _Csv:
    """Open a CSV file with a header, reading it through once for the types of its columns.

    The delimiter is whichever of comma, semicolon and tab the header has most of. Cells are text as written, so an id
    such as 00123 keeps its zeros. `encoding` is UTF-8 if not given, or what a byte order mark says. Raises UsageError
    where the header is missing, of another encoding, or names a column twice.
    """
    form, header = _header(path, encoding)
    found = ColumnTypes({name: pa.null() for name in header})
    count = 0
    for record in _csv_records(path, form, len(header)):
        count += 1
        if not isinstance(record, Reject):
            _, line, cells = record
            named = zip(header, cells, strict=True)
            typed = ((name, cell, type_of_cell(cell)) for name, cell in named if not found.is_settled(name))
            found.take(typed, f"{path.name} line {line}")
    return _Csv(path, header, form, found, count)


def _header(path: Place, given: str | None) -> tuple[_Form, tuple[str, ...]]:
    with path.open() as file:
        encoding = chosen_encoding(cast(BinaryIO, file), given)
    try:
        first = next(_lines(path, encoding), "")
    except UnicodeError as error:
        raise UsageError(f"The header of {path.name} is not {encoding}: {error}.") from error
    form = _Form(encoding, max(",;\t", key=first.count), given is not None)
    lines = csv.reader(_lines(path, encoding), delimiter=form.delimiter)
    try:
        names = next(lines, [])
    except csv.Error as error:
        raise UsageError(f"The header of {path.name} cannot be read: {error}.") from error
    if not names:
        raise UsageError(f"{path.name} is empty: its first line must name the columns.")
    if any(_is_broken(name) for name in names):
        raise UsageError(f"The header of {path.name} cannot be read. {_unread(path, form)}")
    header = tuple(name.strip() or f"column {number}" for number, name in enumerate(names, 1))
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise UsageError(f"The header of {path.name} names {twice[0]!r} more than once: rename one.")
    return form, header


def _unread(path: Place, form: _Form) -> str:
    if form.given or form.encoding != "utf-8-sig":
        return wrong_encoding(form.encoding)
    with path.open() as file:
        return not_utf8(cast(BinaryIO, file))


def _lines(path: Place, encoding: str) -> Iterator[str]:
    with (
        path.open() as data,
        io.TextIOWrapper(cast(BinaryIO, data), encoding, errors="surrogateescape", newline="") as file,
    ):
        while line := file.readline(_LONGEST_CELL):
            yield line


def _csv_records(path: Place, form: _Form, width: int) -> Iterator[tuple[int, int, list[str]] | Reject]:
    """Give each record with its number and its first line, both from 1; the header is line 1."""
    # The module's own limit of 131,072 characters is process-wide; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    lines = csv.reader(_lines(path, form.encoding), delimiter=form.delimiter)
    next(lines)
    number, unread = 0, ""
    while True:
        number += 1
        start = lines.line_num + 1
        where = f"{path.name} line {start}"
        try:
            cells = next(lines, None)
        except csv.Error as error:
            yield Reject(number, None, "", f"The line is not CSV: {error}.", where)
            continue
        if cells is None:
            return
        if not cells:
            number -= 1
        elif any(map(_is_broken, cells)):
            unread = unread or _unread(path, form)
            yield Reject(number, None, "", unread, where)
        elif len(cells) != width:
            hint = "" if lines.line_num == start else f"; a quote opened there ran on to line {lines.line_num}"
            reason = f"The line has {len(cells)} cells where the header has {width}{hint}."
            yield Reject(number, None, "", reason, where)
        else:
            yield number, start, cells


def _is_broken(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell)


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
        for record in _json_records(self.path):
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
    for record in _json_records(path):
        count += 1
        if not isinstance(record, Reject):
            number, values = record
            typed = ((name, value, type_of_value(value)) for name, value in values.items())
            found.take(typed, _where(path, number))
    if not found.types:
        raise UsageError(f"{path.name} has no JSON object in it: write one object a line, such as {{'id': 1, ...}}.")
    return _JsonLines(path, found, count)


def _json_records(path: Place) -> Iterator[tuple[int, dict[str, object]] | Reject]:
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
