"""Which columns of a source are what."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mmrec.errors import UsageError
from mmrec.modality import Modality

__all__ = ["ColumnSpec", "check_columns"]


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
        hint = f" Did you mean {_listed(near)}?" if near else ""
        raise UsageError(f"The source has no column {_listed(missing)}.{hint} It has {_listed(known)}.")
    contents = (*columns.text, *columns.image, *columns.audio)
    if not contents:
        raise UsageError(f"No column is named as text, image or audio: name at least one of {_listed(known)}.")
    twice = sorted({name for name in contents if contents.count(name) > 1})
    if twice:
        raise UsageError(f"Column {_listed(twice)} is named twice; a column is text, image or audio, once.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
