"""Columns of a catalog: what each holds (id, text, media, metadata), and its common type over all rows."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.sources.scalars import common_type
from mmrec.types import Modality

_MOST_LISTED: Final = 30


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Columns by their part in an item.

    Attributes:
        id: The column of ids; empty if it is not named yet.
        text: Text columns, joined in this order, with a line break between, into one field.
        image: Image columns, one field each: paths, or bytes in the table.
        audio: Audio columns, one field each: paths, or bytes in the table.
        metadata: Columns kept for filters and display.
        deleted: Column that marks, where it is true, rows whose items are to be removed.

    """

    id: str = ""
    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    deleted: str | None = None

    @property
    def names_content(self) -> bool:
        """Whether any column of contents is named; if none is, columns are guessed."""
        return bool(self.text or self.image or self.audio)

    @property
    def media(self) -> tuple[tuple[Modality, str], ...]:
        """Image and audio columns with their modality."""
        return (*((Modality.IMAGE, name) for name in self.image), *((Modality.AUDIO, name) for name in self.audio))

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, once."""
        mark = () if self.deleted is None else (self.deleted,)
        return tuple(dict.fromkeys((self.id, *self.text, *self.image, *self.audio, *self.metadata, *mark)))


def check_columns(columns: ColumnSpec, known: Sequence[str]) -> None:
    """Raise UsageError if a column is not among `known`, has two modalities, or nothing is content."""
    missing = [name for name in columns.names if name not in known]
    if missing:
        near = [match for name in missing for match in difflib.get_close_matches(name, known, 1)]
        hint = f" Did you mean {listed_columns(near)}?" if near else ""
        raise UsageError(f"The source has no column {listed_columns(missing)}.{hint} It has {listed_columns(known)}.")
    contents = (*columns.text, *columns.image, *columns.audio)
    if not contents:
        raise UsageError(f"No column is named as text, image or audio: name at least one of {listed_columns(known)}.")
    twice = sorted({name for name in contents if contents.count(name) > 1})
    if twice:
        raise UsageError(f"Column {listed_columns(twice)} is named twice; a column is text, image or audio, once.")


def listed_columns(names: Sequence[str]) -> str:
    """List names of columns, the first ones of many."""
    some = ", ".join(f"'{name}'" for name in names[:_MOST_LISTED])
    return some if len(names) <= _MOST_LISTED else f"{some} and {len(names) - _MOST_LISTED:,} more"


def plain_name(name: str) -> str:
    """Spell ProductName, product-name and `product name` alike: product_name."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


_TEXT: Final = pa.string()
_SETTLED: Final = 128
"""Once a column's texts outnumber its other values by this many, it is text and is not inspected further."""
_SHOWN: Final = 40


@dataclass(slots=True)
class TypeCount:
    """Values of one type in one column: how many, and the first with where it is."""

    count: int
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class MixedColumn:
    """A column that is text only because of a few values of another type than most.

    `main_type` is the type of most values, as named by `type_name`; `example` is the first of the `outliers`, which are
    of other types, and `where` its file and line.
    """

    column: str
    main_type: str
    outliers: int
    values: int
    example: str
    where: str


@dataclass(slots=True)
class ColumnTypes:
    """The narrowest type that holds all values of each column, found while a source is read through."""

    types: dict[str, pa.DataType] = field(default_factory=dict)
    _seen: dict[str, dict[pa.DataType, TypeCount]] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)

    def is_settled(self, column: str) -> bool:
        """Whether a column is text, and no other value will change that."""
        return column in self._settled

    def add_row(self, row: Iterable[tuple[str, object, pa.DataType]], where: str) -> None:
        """Take one more row into account: column, value and type of each."""
        for column, value, dtype in row:
            known = self._seen.setdefault(column, {})
            seen = known.get(dtype)
            if seen is None:
                known[dtype] = TypeCount(1, str(value)[:_SHOWN], where)
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

    def mixed_columns(self) -> list[MixedColumn]:
        """Return the columns that are text because of a few values, in order of columns."""
        mixed = (self._mixed(column) for column, dtype in self.types.items() if dtype == _TEXT)
        return [one for one in mixed if one is not None]

    def _mixed(self, column: str) -> MixedColumn | None:
        counts: Counter[str] = Counter()
        known = self._seen.get(column, {})
        for dtype, seen in known.items():
            if not pa.types.is_null(dtype):
                counts[type_name(dtype)] += seen.count
        if counts.keys() >= {"integer", "number"}:
            counts["number"] += counts.pop("integer")
        main = max(counts, key=lambda name: counts[name], default="text")
        total = counts.total()
        fits = {main, "integer"} if main == "number" else {main}
        others = [seen for dtype, seen in known.items() if type_name(dtype) not in {*fits, "null"}]
        if main == "text" or not others or 2 * counts[main] <= total:
            return None
        return MixedColumn(column, main, total - counts[main], total, others[0].value, others[0].where)


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
"""Types that a user can give a column, by name."""

_BY_TYPE: Final = {dtype: name for name, dtype in _NAMES.items()}


def type_name(dtype: pa.DataType) -> str:
    """Return the name of a metadata type as users write and read it."""
    if pa.types.is_list(dtype):
        return "list"
    return _BY_TYPE.get(dtype, str(dtype))
