"""A recommendation request's options, and its answer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias

from mmrec.errors import UsageError
from mmrec.query import Hit, as_table

if TYPE_CHECKING:
    import pandas as pd

CandidateSource: TypeAlias = Literal["history", "text", "popular"]
"""Source of an item: the user's history, the text of the request, or its popularity."""


@dataclass(frozen=True, slots=True)
class Reason:
    """An item of the history that a recommended item is similar to.

    `similarity` is the cosine of the contents of the two items, `shares` its parts by modality, `kind` that of the
    event.
    """

    id: str
    kind: str
    similarity: float
    shares: Mapping[str, float] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Recommended(Hit):
    """A recommended item; its score says how well it matches its source, and lists are not sorted by it.

    `interest` is the number of the user's interest that found it, the strongest being 0, or None. `because` are the
    items of the history that it is most similar to, if an explanation was requested.
    """

    source: CandidateSource = "history"
    interest: int | None = None
    because: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list for one user.

    Attributes:
        hits: The items, best first.
        interests: Share of each interest found in the history, the strongest first.
        short_share: Share of recent events in these, 0 to 1.
        popular_share: Share of popularity in the list, 0 to 1.
        events: Number of known events of the user, those given in the call included.
        unknown: Ids in the history that no item has; they are ignored.
        model: Name of the user model.
        generation: Number of the generation that answered.
        seconds: Time from the call to the answer.
        unknown_user: Whether a user without any event was named.

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
    """Options of a list.

    Attributes:
        k: How many items at most.
        where: SQL condition on ``id`` and metadata.
        exclude_seen: Exclude the items of all the user's events; disliked items are always excluded.
        diversity: 0 for the best matches, 1 for items as different from each other as possible.
        explain: Give the items of the history that each is most similar to.

    """

    k: int = 10
    where: str | None = None
    exclude_seen: bool = True
    diversity: float = 0.0
    explain: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a diversity that is not allowed."""
        given = self.diversity
        if isinstance(given, bool) or not isinstance(given, Real) or not math.isfinite(given) or not 0 <= given <= 1:
            raise UsageError(f"diversity must be a number from 0 to 1; got {given!r}")
