"""Print tables, warnings and errors on the terminal, with control characters removed."""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import chain, islice
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_ARABIC_OR_INDIC: Final = "\u0600-\u06ff\u0750-\u077f\u0900-\u0dff"
_EMOJI: Final = "\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
# Persian and Indian words are spelled with joiners, and emoji are put together with them.
_JOINER: Final = re.compile(f"(?<=[{_ARABIC_OR_INDIC}{_EMOJI}])[\u200c\u200d](?=[{_ARABIC_OR_INDIC}{_EMOJI}])")
_UNSAFE_RANGES: Final = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE: Final = re.compile(f"[{_UNSAFE_RANGES}]")
_SPACE: Final = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_LITERAL_ESCAPE: Final = re.compile(rf"\\+(?=x[0-9a-f]{{2}}|u[0-9a-f]{{4}}|U[0-9a-f]{{8}}|[{_UNSAFE_RANGES}])")


def to_safe_line(value: object) -> str:
    """One line of text that is safe to print: line breaks become a space, invisible and control characters escapes."""
    if value is None:
        return ""
    text = str(value)
    return text if text.isprintable() else _escape_unsafe(_SPACE.sub(" ", text))


def to_unique_id(value: object) -> str:
    """An id that is safe to print; ids that differ are shown differently."""
    text = "" if value is None else str(value)
    if "\\" in text:
        text = _LITERAL_ESCAPE.sub(lambda found: found[0] * 2, text)
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


class Terminal(Console):
    """A console that escapes invisible and control characters in everything that is printed."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render; the control codes of its own styles are no part of the texts and stay."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(_escape_unsafe, segment.text.split("\n"))), segment.style)


def _escape_unsafe(text: str) -> str:
    """Escape unsafe characters, but keep joiners where words and emoji need them."""
    kept = {found.start() for found in _JOINER.finditer(text)}
    return _UNSAFE.sub(lambda found: found[0] if found.start() in kept else _escape(found), text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


data = Terminal(highlight=False)
"""Answers: the tables."""

notes = Terminal(stderr=True, highlight=False)
"""Everything else: progress, questions, warnings, errors."""

_IDS = frozenset({"id", "user"})
"""Columns in which every character of a value matters."""


def emit_json(document: Mapping[str, object]) -> None:
    """Print one JSON document. Numbers that JSON does not have (NaN, infinity) become null, dates ISO 8601."""
    sys.stdout.write(json.dumps(_to_jsonable(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def emit_json_rows(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Print one JSON document whose only member is a list, a row at a time: it may have any length."""
    source = iter(rows)
    first = list(islice(source, 1))  # errors of the query are raised before output begins
    sys.stdout.write(f"{{\n {json.dumps(name)}: [")
    for number, row in enumerate(chain(first, source)):
        sys.stdout.write(("," if number else "") + "\n  " + json.dumps(_to_jsonable(row), allow_nan=False))
    sys.stdout.write("\n ]\n}\n")
    sys.stdout.flush()


def note(message: str) -> None:
    """Print a note on stderr."""
    notes.print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    notes.print(Text.assemble(("warning: ", "bold yellow"), message), soft_wrap=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> Table:
    """Lay out rows so that they fit the terminal: numbers are never cut, long texts fold to three lines at most.

    Args:
        headers: Names of the columns.
        rows: One value a column.
        numbers: Names of the columns that are set flush right.

    """
    laid = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for header in headers:
        if header in numbers:
            laid.add_column(header, justify="right", no_wrap=True)
        else:
            laid.add_column(header, overflow="fold", min_width=4)
    for row in rows:
        cells = zip(headers, row, strict=True)
        laid.add_row(*(Text(_cell(name, value, limit=120)) for name, value in cells))
    return laid


def pairs(values: Mapping[str, object]) -> Table:
    """Lay out names and values, nested ones with dotted names."""
    laid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    laid.add_column(style="bold", no_wrap=True, max_width=44)
    laid.add_column(overflow="fold")
    for name, value in _flat(values):
        laid.add_row(Text(to_safe_line(name).replace("_", " ")), Text(_cell(name, value)))
    return laid


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def format_value(value: object) -> str:
    """A value for a table, on one line and safe to print."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.3f}"
        case int():
            return f"{value:,}"
        case Mapping():
            return ", ".join(f"{to_safe_line(name)} {_inner(inner)}" for name, inner in value.items()) or "none"
        case list() | tuple():
            return ", ".join(map(format_value, value)) or "none"
        case _:
            return to_safe_line(value)


def _inner(value: object) -> str:
    """A list inside a list of named values, whose commas are not theirs."""
    return f"[{format_value(value)}]" if isinstance(value, list | tuple) and value else format_value(value)


def unformatted(value: object) -> object:
    """A metadata value; numbers have no thousands separators, so that a year has no comma."""
    match value:
        case bool():
            return value
        case int():
            return str(value)
        case float():
            return f"{value:.10g}"
        case list():
            return [unformatted(one) for one in value]
        case _:
            return value


def _cell(name: str, value: object, limit: int | None = None) -> str:
    if name in _IDS:
        return to_unique_id(value)
    text = format_value(value)
    return text if limit is None or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _to_jsonable(value: object) -> object:
    match value:
        case Mapping():
            return {str(name): _to_jsonable(inner) for name, inner in value.items()}
        case str() | bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case date():
            return value.isoformat()
        case Iterable():
            return [_to_jsonable(inner) for inner in value]
        case _:
            return str(value)
