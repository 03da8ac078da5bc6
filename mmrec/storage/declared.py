"""Spaces that a person declared for vectors made elsewhere; the store has no encoder for them.

Names and digests only: nothing here says what code to run.
"""

import hashlib
import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mmrec.errors import SpaceMismatchError, StoreError, UsageError
from mmrec.storage.files import write_atomically
from mmrec.storage.layout import Layout
from mmrec.types import Modality, Space

__all__ = [
    "VECTOR_FIELD",
    "Declared",
    "check",
    "declare",
    "declared",
    "declared_spaces",
    "fingerprint_of",
    "is_imported",
]

VECTOR_FIELD = "mmrec_vector:"
"""The column of a stored field that is nothing but an imported vector begins so; the space's name follows."""

_FINGERPRINT = re.compile(r"[A-Za-z0-9_-]{8,128}")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


class Declared(BaseModel):
    """One declared space.

    Attributes:
        name: Its name.
        dim: Numbers of a vector.
        fingerprint: Hex digest over what made the vectors.
        modality: What the vectors are of.
        model: What the person said made them.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dim: int
    fingerprint: str
    modality: Modality
    model: str = ""

    @property
    def space(self) -> Space:
        """As a space."""
        return Space(self.name, self.dim, self.fingerprint)

    def __str__(self) -> str:
        """For messages."""
        made_by = f", by {self.model}" if self.model else ""
        return f"{self.dim} numbers of {self.modality}{made_by}, fingerprint {self.fingerprint[:12]}"


_LIST = TypeAdapter(list[Declared])


def fingerprint_of(model: str, dim: int) -> str:
    """The fingerprint of vectors of which only the name of their model is known."""
    return hashlib.sha256(f"imported vectors\n{model}\n{dim}".encode()).hexdigest()


def is_imported(column: str) -> bool:
    """Whether a stored field, by its column, is an imported vector and has no content behind it."""
    return column.startswith(VECTOR_FIELD)


def declared(layout: Layout) -> list[Declared]:
    """All declared spaces. Raises StoreError where their file is damaged."""
    path = _path(layout)
    try:
        return _LIST.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} cannot be read ({error}); restore it from a backup of the store") from error


def declared_spaces(layout: Layout) -> dict[Modality, tuple[Space, ...]]:
    """Declared spaces by modality."""
    found = declared(layout)
    return {
        modality: tuple(one.space for one in found if one.modality == modality)
        for modality in {one.modality for one in found}
    }


def check(new: Declared) -> None:
    """Raise UsageError where a space cannot have its name or fingerprint: both become part of a file's name."""
    if not _NAME.fullmatch(new.name):
        raise UsageError(
            f"a space cannot be called {new.name!r}: use lower case letters, digits, - and ., at most 63 of them"
        )
    if not _FINGERPRINT.fullmatch(new.fingerprint):
        raise UsageError(
            f"a fingerprint cannot be {new.fingerprint!r}: use letters, digits, - and _, from 8 to 128 of them, as the "
            "encoder gives it; or name the model with --model"
        )


def declare(layout: Layout, new: Declared) -> None:
    """Declare a space, or do nothing where it is declared already. Hold the commit lock.

    Raises SpaceMismatchError where another one has its name, UsageError where it cannot have that name.
    """
    check(new)
    there = declared(layout)
    other = next((one for one in there if one.name == new.name and one.space != new.space), None)
    if other is not None:
        raise SpaceMismatchError(
            f"space {new.name!r} of {layout.root} has {other}; these vectors have {new}, and the two cannot be "
            "compared. Import them under another name with --space"
        )
    if not any((one.name, one.modality) == (new.name, new.modality) for one in there):
        rows = [one.model_dump(mode="json") for one in (*there, new)]
        write_atomically(_path(layout), json.dumps(rows, indent=1).encode())


def _path(layout: Layout) -> Path:
    return layout.root / "spaces.json"
