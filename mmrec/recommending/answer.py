"""What a recommendation comes back as."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mmrec.query import Hit

__all__ = ["Because", "Recommendations", "Recommended", "Source"]

Source: TypeAlias = Literal["taste", "text", "popular"]
"""What brought an item: what the person did, the text they gave, or what all others do."""


@dataclass(frozen=True, slots=True)
class Because:
    """A part of the past that speaks for an item.

    Attributes:
        id: The item of the past.
        kind: What was done with it.
        likeness: Cosine of the two items' contents: 1 for equal ones, 0 where they have nothing in common.
        shares: Name of a modality -> its part of the likeness.
        title: What the item is called; empty where nothing says.

    """

    id: str
    kind: str
    likeness: float
    shares: Mapping[str, float] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Recommended(Hit):
    """One item that is recommended; its score says how well it matches what brought it, and is no order of the list.

    Attributes:
        source: What brought it.
        interest: Which of the person's interests, the strongest being 0; None where none did.
        because: What in the past speaks for it, the strongest first; empty unless an explanation was asked for.

    """

    source: Source = "taste"
    interest: int | None = None
    because: tuple[Because, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list for one person.

    Attributes:
        hits: The items, best first.
        interests: Share of each interest that was found in the past, the strongest first.
        short_share: How much of these is owed to what was done last, 0 to 1.
        popular_share: How much of the list is owed to what is popular, 0 to 1: much where little is known.
        events: Number of events that are known of the person, those given in the call included.
        unknown: Ids of the past that no item has; they were left aside.
        model: Name of the model that placed the person.
        generation: Number of the generation that answered.
        seconds: Time from the call to the answer.
        unknown_user: Whether a user was named of whom there is no event; the list then owes nothing to them.

    """

    hits: tuple[Recommended, ...]
    interests: tuple[float, ...]
    short_share: float
    popular_share: float
    events: int
    unknown: tuple[str, ...]
    model: str
    generation: int
    seconds: float
    unknown_user: bool = False
