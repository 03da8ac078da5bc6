"""The types of the columns of a source that has none of its own, and which values made them what they are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import pyarrow as pa

from mmrec.sources.scalars import common_type

__all__ = ["CHOICES", "ColumnTypes", "Seen", "TextByFew", "TypesFound", "named_type"]

_TEXT: Final = pa.string()
_SETTLED: Final = 128
"""So many more texts than other values, and a column is text: its other values are looked at no more."""
_SHOWN: Final = 40


@dataclass(slots=True)
class Seen:
    """Values of one type in one column: how many, and the first with where it is."""

    count: int
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class TextByFew:
    """A column that is text because of a few values that are not what most of it is.

    Attributes:
        column: Its name.
        mostly: What most of its values are, as a type name of `named_type`.
        few: How many values are not.
        values: How many values there are.
        example: The first of the few.
        where: File and line of that one.

    """

    column: str
    mostly: str
    few: int
    values: int
    example: str
    where: str


@dataclass(slots=True)
class ColumnTypes:
    """Types found while a source is read through.

    Attributes:
        types: The narrowest type that holds all values of each column.

    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    _seen: dict[str, dict[pa.DataType, Seen]] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)

    def is_settled(self, column: str) -> bool:
        """Whether a column is text, and no value will change what is said of it."""
        return column in self._settled

    def take(self, row: Iterable[tuple[str, object, pa.DataType]], where: str) -> None:
        """Take one more row into account: column, value and type of each."""
        for column, value, dtype in row:
            known = self._seen.setdefault(column, {})
            seen = known.get(dtype)
            if seen is None:
                known[dtype] = Seen(1, str(value)[:_SHOWN], where)
                self.types[column] = common_type(self.types.get(column, pa.null()), dtype)
                continue
            seen.count += 1
            if dtype == _TEXT and seen.count % _SETTLED == 0:
                rest = sum(one.count for kind, one in known.items() if not pa.types.is_null(kind)) - seen.count
                if seen.count >= rest + _SETTLED:
                    self._settled.add(column)

    def join(self, others: "ColumnTypes", name: Callable[[str], str]) -> None:
        """Take the columns of others, each under the name that it has here."""
        self.types |= {name(column): dtype for column, dtype in others.types.items()}
        self._seen |= {name(column): seen for column, seen in others._seen.items()}  # noqa: SLF001 - of its own kind

    def first(self, column: str, dtype: pa.DataType) -> Seen | None:
        """Return the values of a type in a column, if there are any."""
        return self._seen.get(column, {}).get(dtype)

    def text_by_few(self) -> Sequence[TextByFew]:
        """Return the columns that are text because of a few values, in order of columns."""
        found = (self._few(column) for column, dtype in self.types.items() if dtype == _TEXT)
        return [one for one in found if one is not None]

    def _few(self, column: str) -> TextByFew | None:
        counts: dict[str, int] = {}
        known = self._seen.get(column, {})
        for dtype, seen in known.items():
            if not pa.types.is_null(dtype):
                counts[named_type(dtype)] = counts.get(named_type(dtype), 0) + seen.count
        if counts.keys() >= {"integer", "number"}:
            counts["number"] += counts.pop("integer")
        mostly = max(counts, key=lambda name: counts[name], default="text")
        total = sum(counts.values())
        fits = {mostly, "integer"} if mostly == "number" else {mostly}
        others = [seen for dtype, seen in known.items() if named_type(dtype) not in {*fits, "null"}]
        if mostly == "text" or not others or 2 * counts[mostly] <= total:
            return None
        return TextByFew(column, mostly, total - counts[mostly], total, others[0].value, others[0].where)


@runtime_checkable
class TypesFound(Protocol):
    """A reader of a source whose types were found by reading its values."""

    @property
    def found(self) -> ColumnTypes:
        """What was found."""
        ...


_NAMES: Final[Mapping[str, pa.DataType]] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "time with zone": pa.timestamp("us", "UTC"),
    "null": pa.null(),
}
CHOICES: Final = {name: dtype for name, dtype in _NAMES.items() if name.isalpha() and name != "null"}
"""Types that a person can give a column, by name."""

_BY_TYPE: Final = {dtype: name for name, dtype in _NAMES.items()}


def named_type(dtype: pa.DataType) -> str:
    """Say a metadata type as a person would."""
    if pa.types.is_list(dtype):
        return "list"
    return _BY_TYPE.get(dtype, str(dtype))
