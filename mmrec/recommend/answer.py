"""A recommendation request's options, and its answer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from mmrec.errors import UsageError
from mmrec.query import Hit, as_table

if TYPE_CHECKING:
    import pandas as pd

CandidateSource: TypeAlias = Literal["taste", "text", "popular"]
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

    source: CandidateSource = "taste"
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

    def __iter__(self) -> Iterator[Recommended]:
        """Iterate over the items, best first."""
        return iter(self.hits)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.hits)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table of the items, one row each, with a column for each metadata value. Needs pandas."""
        return as_table(self.hits)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list should be like.

    Attributes:
        k: How many items at most.
        where: SQL condition on ``id`` and metadata that items must meet.
        exclude_seen: Leave out what the person has met already; what they turned down is always left out.
        diversity: 0 for the best matches, 1 for items as unlike each other as can be.
        explain: Say which items of the past speak for each.

    """

    k: int = 10
    where: str | None = None
    exclude_seen: bool = True
    diversity: float = 0.0
    explain: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that cannot be meant."""
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise UsageError(f"k must be a whole number, at least 1; got {self.k!r}")
        dial = self.diversity
        if isinstance(dial, bool) or not isinstance(dial, Real) or not math.isfinite(dial) or not 0 <= dial <= 1:
            raise UsageError(f"diversity must be a number from 0 to 1; got {dial!r}")
