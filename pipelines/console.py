"""Print tables, warnings and errors on the terminal, with control characters removed."""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import chain, islice
from typing import Final

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mmrec.errors import UsageError

_ARABIC_OR_INDIC: Final = "\u0600-\u06ff\u0750-\u077f\u0900-\u0dff"
_EMOJI: Final = "\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
# Persian and Indian words are spelled with joiners, and emoji are put together with them.
_JOINER: Final = re.compile(f"(?<=[{_ARABIC_OR_INDIC}{_EMOJI}])[\u200c\u200d](?=[{_ARABIC_OR_INDIC}{_EMOJI}])")
_HIDDEN: Final = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDING: Final = re.compile(f"[{_HIDDEN}]")
_SPACE: Final = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_LIKE_AN_ESCAPE: Final = re.compile(rf"\\+(?=x[0-9a-f]{{2}}|u[0-9a-f]{{4}}|U[0-9a-f]{{8}}|[{_HIDDEN}])")


def clean(value: object) -> str:
    """One line of text that is safe to print: line breaks become a space, what hides or drives becomes an escape."""
    if value is None:
        return ""
    text = str(value)
    return text if text.isprintable() else _shown(_SPACE.sub(" ", text))


def escaped(value: object) -> str:
    """An id as it is shown: safe to print, and two that differ are shown differently."""
    text = "" if value is None else str(value)
    if "\\" in text:
        text = _LIKE_AN_ESCAPE.sub(lambda found: found[0] * 2, text)
    return text if text.isprintable() else _HIDING.sub(_escape, text)


class Terminal(Console):
    """A console through which no character passes that hides or drives, whatever is printed and whoever prints it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render what is printed; escapes of its own styles are no part of the texts and stay."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(_shown, segment.text.split("\n"))), segment.style)


def _shown(text: str) -> str:
    """Escape what hides or drives, but for joiners where words and emoji need them."""
    kept = {found.start() for found in _JOINER.finditer(text)}
    return _HIDING.sub(lambda found: found[0] if found.start() in kept else _escape(found), text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


data = Terminal(highlight=False)
"""Answers: the tables."""

notes = Terminal(stderr=True, highlight=False)
"""Everything else: progress, questions, warnings, errors."""

_IDS = frozenset({"id", "user"})
"""Columns whose values are told apart by each character."""


def emit_json(document: Mapping[str, object]) -> None:
    """Print one JSON document. Numbers that JSON does not have (NaN, infinity) become null, dates ISO 8601."""
    sys.stdout.write(json.dumps(_plain(document), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def emit_json_rows(name: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Print one JSON document whose only member is a list, a row at a time, so that it may be of any length."""
    source = iter(rows)
    first = list(islice(source, 1))  # what is wrong with the question shows here, before anything is written
    sys.stdout.write(f"{{\n {json.dumps(name)}: [")
    for number, row in enumerate(chain(first, source)):
        sys.stdout.write(("," if number else "") + "\n  " + json.dumps(_plain(row), allow_nan=False))
    sys.stdout.write("\n ]\n}\n")
    sys.stdout.flush()


def note(message: str) -> None:
    """Say one thing beside the data."""
    notes.print(Text(message), soft_wrap=True)


def warn(message: str) -> None:
    """Say one thing that needs attention."""
    notes.print(Text.assemble(("warning: ", "bold yellow"), message), soft_wrap=True)


def agree(question: str, *, yes: bool, instead: str) -> None:
    """Return if the person agrees: beforehand with ``--yes``, or at a terminal. Raises UsageError otherwise.

    Args:
        question: What is asked, without its question mark.
        yes: Whether ``--yes`` was given.
        instead: What to do for another outcome, as a sentence.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question}? There is no terminal to ask: add --yes to agree. {instead}")
    if not typer.confirm(clean(question), default=True, err=True):
        raise UsageError(f"Nothing was done. {instead}")


def confirmed(question: str) -> bool:
    """Return whether the person at the terminal says yes; without a terminal nobody does."""
    return sys.stdin.isatty() and typer.confirm(clean(question), default=False, err=True)


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
        laid.add_row(*(Text(escaped(value) if name in _IDS else _short(shown(value))) for name, value in cells))
    return laid


def pairs(values: Mapping[str, object]) -> Table:
    """Lay out names and values, nested ones with dotted names."""
    laid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    laid.add_column(style="bold", no_wrap=True, max_width=44)
    laid.add_column(overflow="fold")
    for name, value in _flat(values):
        laid.add_row(Text(clean(name).replace("_", " ")), Text(escaped(value) if name in _IDS else shown(value)))
    return laid


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def shown(value: object) -> str:
    """A value as tables show it, on one line and safe to print."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.3f}"
        case int():
            return f"{value:,}"
        case Mapping():
            return ", ".join(f"{clean(name)} {_inner(inner)}" for name, inner in value.items()) or "none"
        case list() | tuple():
            return ", ".join(map(shown, value)) or "none"
        case _:
            return clean(value)


def _inner(value: object) -> str:
    """A list inside a list of named values, whose commas are not theirs."""
    return f"[{shown(value)}]" if isinstance(value, list | tuple) and value else shown(value)


def written(value: object) -> object:
    """A value of a catalog with numbers as they are written there: a year has no comma in it."""
    match value:
        case bool():
            return value
        case int():
            return str(value)
        case float():
            return f"{value:.10g}"
        case list():
            return [written(one) for one in value]
        case _:
            return value


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return {str(name): _plain(inner) for name, inner in value.items()}
        case str() | bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case date():
            return value.isoformat()
        case Iterable():
            return [_plain(inner) for inner in value]
        case _:
            return str(value)
