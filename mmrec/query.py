"""What is asked and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mmrec.types import Value

PartKind: TypeAlias = Literal["text", "image", "audio", "item"]
"""What a part of a query is: a text, a picture, a sound, or an item already in the store."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query; a query is the weighted sum of its parts.

    Attributes:
        kind: What `value` is; always named, never guessed.
        value: The text itself, the path of a picture or sound, or an item's id.
        weight: Share of this part beside the others; a negative one pushes away.

    """

    kind: PartKind
    value: str
    weight: float = 1.0


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
