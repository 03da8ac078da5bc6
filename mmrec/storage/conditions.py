"""Conditions in SQL, checked before the tables parse them: their parser drops, without a word, what follows one.

``price > 2 LIMIT 1``, ``price > 2; DROP TABLE x`` and ``price > 2 -- or not`` were all taken for ``price > 2``.
"""

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from mmrec.errors import UsageError

__all__ = ["as_condition", "mismatch", "typed_names"]

_TOKEN: Final = re.compile(
    r"""(?P<text>'(?:[^']|'')*')|(?P<double>"(?:[^"]|"")*")|(?P<name>`[^`]*`)"""
    r"""|(?P<comment>--|/\*|\#)|(?P<end>;)|(?P<open>\()|(?P<close>\))|(?P<quote>['"`])|(?P<place>[$?])""",
)
_REASONS: Final = {
    "end": "a ; ends it, and what follows would be left out. Write one condition",
    "comment": "a comment begins with {token}, and what follows would be left out",
    "quote": "the quote {token} is opened and not closed; write texts as 'O''Neil'",
    "place": "{token} stands for a value that is not given; write the value itself",
}
_COMPARED: Final = (
    r"(?P<how>=|!=|<>|<=|>=|<|>|(?:not\s+)?in\s*\(|(?:not\s+)?i?like\b|between\b)\s*"
    r"(?P<value>'(?:[^']|'')*'|\d[\d.]*|true\b|false\b)"
)
_MOST_NAMED: Final = 30
_NUMBERS: Final = ("whole numbers", "numbers")
_KINDS: Final = (
    (pa.types.is_boolean, "true or false", "= true"),
    (pa.types.is_integer, "whole numbers", "= 1"),
    (pa.types.is_floating, "numbers", "= 2.5"),
    (pa.types.is_timestamp, "times", "= timestamp '2024-01-31 12:00:00'"),
    (pa.types.is_date, "dates", "= date '2024-01-31'"),
    (pa.types.is_list, "lists", "array_has({name}, 'drama')"),
    (pa.types.is_string, "texts", "= 'drama'"),
)


def as_condition(where: str, columns: Sequence[str]) -> str:
    """Return a condition as the tables may be given it, in brackets, so that nothing after it is dropped.

    Raises UsageError, with the reason, where it is more than one condition, or part of it would be passed over.
    """
    depth = 0
    for found in _TOKEN.finditer(where):
        what, token = found.lastgroup or "", found[0]
        if what in _REASONS:
            raise _refused(where, _REASONS[what].format(token=token))
        if what == "double" and token[1:-1] in columns:
            raise _refused(where, f"{token} is a text, not the column; write the column as `{token[1:-1]}`")
        depth += (what == "open") - (what == "close")
        if depth < 0:
            break
    if depth:
        raise _refused(where, f"a bracket is {'opened and not closed' if depth > 0 else 'closed that was not opened'}")
    return f"({where})"


def typed_names(schema: pa.Schema) -> str:
    """List columns with what they hold."""
    some = ", ".join(f"{name} ({_kind(schema.field(name).type)[0]})" for name in schema.names[:_MOST_NAMED])
    return some if len(schema) <= _MOST_NAMED else f"{some} and {len(schema) - _MOST_NAMED:,} more"


def mismatch(where: str, schema: pa.Schema) -> str | None:
    """Say which column is compared with a value of another kind, and how it is written; None where none is named."""
    for name in sorted(schema.names, key=len, reverse=True):
        dtype = schema.field(name).type
        plain = rf"|(?<![\w`']){re.escape(name)}(?![\w`'])" if name.isidentifier() else ""
        found = re.search(rf"(?:`{re.escape(name)}`{plain})\s*{_COMPARED}", where, re.IGNORECASE)
        if found is None or found["value"].startswith("'") == bool(pa.types.is_string(dtype)):
            continue
        (kind, example), value = _kind(dtype), found["value"]
        shown = name if name.isidentifier() else f"`{name}`"
        example = example.format(name=shown) if "{name}" in example else f"{shown} {example}"
        bare = value.strip("'")
        if kind in _NUMBERS and found["how"][0] in "=!<>" and re.fullmatch(r"-?\d+(\.\d+)?", bare):
            example = f"{shown} {found['how']} {bare}"
        return f"column {name!r} holds {kind}, and {value} is {_told(value)}; write it as in: {example}"
    return None


def _refused(where: str, reason: str) -> UsageError:
    return UsageError(f"the filter {where!r} cannot be used: {reason}")


def _kind(dtype: pa.DataType) -> tuple[str, str]:
    return next(((kind, example) for is_it, kind, example in _KINDS if is_it(dtype)), (str(dtype), "is not null"))


def _told(value: str) -> str:
    return "a text" if value.startswith("'") else "true or false" if value.lower() in {"true", "false"} else "a number"
