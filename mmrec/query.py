"""Queries and their results: weighted parts of text, images, audio, items and vectors in; hits out."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from mmrec.types import Value

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL.Image import Image

PartKind: TypeAlias = Literal["text", "image", "audio", "item", "vector"]
"""What a part of a query is: a text, an image, audio, an item of the store, or a vector."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query; a query is the weighted sum of its parts.

    Attributes:
        kind: What `value` is; always named, never guessed.
        value: The text itself; the path, URL or bytes of an image or audio; an item's id; or the numbers of a vector.
        weight: Share of this part beside the others; a negative one pushes away.
        space: Of a vector, the name of its space; None for a vector in the space of the fused item vectors.

    """

    kind: PartKind
    value: str | bytes | tuple[float, ...]
    weight: float = 1.0
    space: str | None = None

    @classmethod
    def text(cls, text: str, weight: float = 1.0) -> Self:
        """Make a part of a text."""
        return cls("text", text, weight)

    @classmethod
    def image(cls, image: "str | Path | bytes | Image", weight: float = 1.0) -> Self:
        """Make a part of an image: its path, URL, encoded bytes, or a `PIL.Image`."""
        if isinstance(image, str | bytes):
            return cls("image", image, weight)
        if isinstance(image, Path):
            return cls("image", str(image), weight)
        file = io.BytesIO()
        (image if image.mode in {"L", "RGB", "RGBA"} else image.convert("RGB")).save(file, "PNG")
        return cls("image", file.getvalue(), weight)

    @classmethod
    def audio(cls, audio: "str | Path | bytes | tuple[np.ndarray[Any, Any], int]", weight: float = 1.0) -> Self:
        """Make a part of audio: path, URL, encoded bytes, or a waveform [n] or [n, channels] and its sampling rate."""
        if isinstance(audio, str | bytes):
            return cls("audio", audio, weight)
        if isinstance(audio, Path):
            return cls("audio", str(audio), weight)
        import soundfile  # noqa: PLC0415 - only a waveform is written

        file = io.BytesIO()
        soundfile.write(file, audio[0], audio[1], format="WAV", subtype="FLOAT")
        return cls("audio", file.getvalue(), weight)

    @classmethod
    def item(cls, item_id: str, weight: float = 1.0) -> Self:
        """Make a part of an item of the store, by its id."""
        return cls("item", item_id, weight)

    @classmethod
    def vector(
        cls, vector: "np.ndarray[Any, Any] | Sequence[float]", space: str | None = None, weight: float = 1.0
    ) -> Self:
        """Make a part of a vector [dim]: in a space of the store by its name, or in that of `Store.vectors` if None."""
        return cls("vector", tuple(float(one) for one in vector), weight, space)


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that was found.

    Attributes:
        id: The item's id.
        score: Higher is better; comparable within one answer only.
        shares: Name of a modality of the item -> what it adds to `score`; the shares add up to the score.
        text: The item's text, if it has one.
        media: Name of a modality -> URIs of the item's media.
        metadata: The item's named values.

    """

    id: str
    score: float
    shares: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    media: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """The answer to one query.

    Attributes:
        hits: The items found, best first.
        generation: Number of the generation that answered.
        seconds: Time from the call to the answer.

    """

    hits: tuple[Hit, ...]
    generation: int
    seconds: float

    def __iter__(self) -> Iterator[Hit]:
        """Iterate over the hits, best first."""
        return iter(self.hits)

    def __len__(self) -> int:
        """Number of hits."""
        return len(self.hits)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table of the hits: id, score, text, and a column for each metadata value. Needs pandas."""
        return as_table(self.hits)


def as_table(hits: Sequence[Hit]) -> "pd.DataFrame":
    """Lay hits out as a table; what a hit has beside metadata comes first."""
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas; install it: pip install pandas") from error
    rows = [{name: value for name, value in asdict(hit).items() if name != "metadata"} for hit in hits]
    return pd.DataFrame([row | dict(hit.metadata) for row, hit in zip(rows, hits, strict=True)])
