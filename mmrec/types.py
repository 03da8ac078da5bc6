"""The library's basic types: modalities, items and their contents, and embedding spaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32
from PIL import Image


class Modality(StrEnum):
    """Text, image or audio. Always named by the caller, never guessed from a value."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"


def modality_bits(modalities: frozenset[Modality]) -> int:
    """One bit for each modality."""
    return sum(1 << place for place, modality in enumerate(Modality) if modality in modalities)


Scalar: TypeAlias = str | int | float | bool | date | datetime | None

Value: TypeAlias = Scalar | list[Scalar]
"""A value of a metadata column: a scalar, or a list of scalars."""


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """Mono audio: float32 samples in [-1, 1] and their rate in hertz."""

    samples: Float32[np.ndarray, " n"]
    rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.rate


Content: TypeAlias = str | Image.Image | Waveform
"""Decoded content: a text, an RGB image, or a mono waveform."""


@dataclass(frozen=True, slots=True)
class Field:
    """One content of an item, not yet read. Exactly one of `text` (for text) and `uri` (for media) is set.

    Attributes:
        modality: Its modality.
        column: Its column, for messages; several text columns are joined into one field, ``title+description``.
        text: The text itself.
        uri: Address of the bytes: a path, a URL, or for bytes inside a table or an archive an address such as
            ``file.parquet#row=12&column=image`` (see `mmrec.sources.locations`).
        data: The bytes, where the source already has them in memory.

    """

    modality: Modality
    column: str
    text: str | None = None
    uri: str | None = None
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a catalog.

    Attributes:
        id: Unique, not empty.
        fields: Its contents, in column order; none is null or empty.
        metadata: Named values for filters and display.
        row: Number of the source row, from 1, for messages only.
        where: File and line, row or member, for messages only: ``catalog.csv line 5``.

    """

    id: str
    fields: tuple[Field, ...]
    metadata: Mapping[str, Value] = field(default_factory=dict)
    row: int = -1
    where: str = ""


@dataclass(frozen=True, slots=True)
class Removal:
    """A source row, numbered from 1, that says that its item is to be removed."""

    row: int
    id: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A source row, or one field of it, that cannot be used: what quarantine keeps.

    Attributes:
        row: Number of the source row, from 1.
        id: The item's id, if it has one.
        column: The field; empty for the whole row.
        reason: One sentence that a user can act on.
        where: File and line, row or member of the row: ``catalog.csv line 5``.
        hides_rows: Whether an unknown number of later rows could not be read either, so that the absence of an item
            from the source says nothing.
        rows: How many rows from this one on cannot be read, where known.

    """

    row: int
    id: str | None
    column: str
    reason: str
    where: str = ""
    hides_rows: bool = False
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space made by one encoder from one modality.

    Attributes:
        name: Short name, unique in a store; also the name of its vector table (lower case, digits, ``-``).
        dim: Length of a vector.
        fingerprint: Hex digest over everything that decides a vector: weights, preprocessing, pooling, code version.
        approximates: Fingerprint of the space that these vectors approximate, if any. An image bridged through its
            labels into the text space approximates that space: text queries may be compared with it.

    """

    name: str
    dim: int
    fingerprint: str
    approximates: str | None = None

    @property
    def comparison_key(self) -> str:
        """Fingerprint under which spaces may be compared with each other."""
        return self.approximates or self.fingerprint
