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
        match found.lastgroup:
            case "end":
                raise _refused(where, "a ; ends it, and what follows would be left out. Write one condition")
            case "comment":
                raise _refused(where, f"a comment begins with {found[0]}, and what follows would be left out")
            case "quote":
                raise _refused(where, f"the quote {found[0]} is opened and not closed; write texts as 'O''Neil'")
            case "place":
                raise _refused(where, f"{found[0]} stands for a value that is not given; write the value itself")
            case "double" if found[0][1:-1] in columns:
                raise _refused(where, f"{found[0]} is a text, not the column; write the column as `{found[0][1:-1]}`")
            case "open":
                depth += 1
            case "close":
                depth -= 1
                if depth < 0:
                    raise _refused(where, "a bracket is closed that was not opened")
    if depth:
        raise _refused(where, "a bracket is opened and not closed")
    return f"({where})"


def typed_names(schema: pa.Schema) -> str:
    """List columns with what they hold."""
    return ", ".join(f"{name} ({_kind(schema.field(name).type)[0]})" for name in schema.names)


def mismatch(where: str, schema: pa.Schema) -> str | None:
    """Say which column is compared with a value of another kind, and how it is written; None where none is named."""
    for name in sorted(schema.names, key=len, reverse=True):
        dtype = schema.field(name).type
        named = rf"`{re.escape(name)}`" + (rf"|(?<![\w`']){re.escape(name)}(?![\w`'])" if name.isidentifier() else "")
        value = r"'(?:[^']|'')*'|\d[\d.]*|true\b|false\b"
        compared = rf"(?:{named})\s*(?:=|!=|<>|<=|>=|<|>|(?:not\s+)?in\s*\(|(?:not\s+)?i?like\b|between\b)\s*({value})"
        found = re.search(compared, where, re.IGNORECASE)
        if found is not None and _is_text(found[1]) != bool(pa.types.is_string(dtype)):
            kind, example = _kind(dtype)
            shown = name if name.isidentifier() else f"`{name}`"
            example = example.format(name=shown) if "{name}" in example else f"{shown} {example}"
            return f"column {name!r} holds {kind}, and {found[1]} is {_told(found[1])}; write it as in: {example}"
    return None


def _refused(where: str, reason: str) -> UsageError:
    return UsageError(f"the filter {where!r} cannot be used: {reason}")


def _kind(dtype: pa.DataType) -> tuple[str, str]:
    return next(((kind, example) for is_it, kind, example in _KINDS if is_it(dtype)), (str(dtype), "is not null"))


def _is_text(value: str) -> bool:
    return value.startswith("'")


def _told(value: str) -> str:
    return "a text" if _is_text(value) else "true or false" if value.lower() in {"true", "false"} else "a number"
