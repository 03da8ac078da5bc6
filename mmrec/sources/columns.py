"""Which columns of a source are what."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mmrec.errors import UsageError
from mmrec.types import Modality

__all__ = ["ColumnSpec", "check_columns", "listed_columns"]

_MOST_LISTED: Final = 30


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Columns by their part in an item.

    Attributes:
        id: The column of ids.
        text: Text columns, joined in this order, with a line break between, into one field.
        image: Picture columns, one field each: paths, or bytes in the table.
        audio: Sound columns, one field each: paths, or bytes in the table.
        metadata: Columns kept for filters and display.
        deleted: Column that marks, where it is true, rows whose items are to be removed.

    """

    id: str
    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    deleted: str | None = None

    @property
    def media(self) -> tuple[tuple[Modality, str], ...]:
        """Picture and sound columns with their modality."""
        return (*((Modality.IMAGE, name) for name in self.image), *((Modality.AUDIO, name) for name in self.audio))

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, once."""
        mark = () if self.deleted is None else (self.deleted,)
        return tuple(dict.fromkeys((self.id, *self.text, *self.image, *self.audio, *self.metadata, *mark)))


def check_columns(columns: ColumnSpec, known: Sequence[str]) -> None:
    """Raise UsageError where a column is not among `known`, has two modalities, or nothing is content."""
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
