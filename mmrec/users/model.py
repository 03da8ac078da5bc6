"""What places people beside items: the seam between what is learned of behaviour and whoever recommends by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

Moments: TypeAlias = int | Int64[np.ndarray, " people"] | None
"""When people ask, in microseconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What one person did until a moment, oldest first; may be empty.

    Attributes:
        rows: Row number of each event's item.
        kinds: Name of each event's kind.
        weights: Weight of each event, of its kind and its rating; below 0 speaks against the item.
        times: Microseconds since 1970 in UTC, ascending.
        strengths: What each says as a rating, see `mmrec.events.ratings`, NaN where it is none; None without any.

    """

    rows: Int64[np.ndarray, " n"]
    kinds: tuple[str, ...]
    weights: Float32[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    strengths: Float32[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        """Number of events."""
        return len(self.rows)

    @property
    def chosen(self) -> Bool[np.ndarray, " n"]:
        """Which events are of kinds that speak for their items, however these were rated."""
        if self.strengths is None:
            return self.weights > 0
        signs = np.nan_to_num(self.strengths, nan=1.0)
        return (self.weights * signs > 0) | (signs == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Interests:
    """One person as vectors in the space of the items.

    Attributes:
        vectors: Unit vectors, the strongest interest first; none where nothing is known of the person.
        weights: Share of each, adding up to 1.
        short_share: How much of them is owed to what was done last, 0 to 1; what is left is owed to the long term.

    """

    vectors: Float32[np.ndarray, "m dim"]
    weights: Float32[np.ndarray, " m"]
    short_share: float


@runtime_checkable
class UserModel(Protocol):
    """Maps items and people into one space, where the inner product of unit vectors says how well they match."""

    @property
    def name(self) -> str:
        """What it is called in tables and manifests."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        ...

    def items(
        self, rows: Int64[np.ndarray, " n"], contents: Float32[np.ndarray, "n content"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Return unit vectors of items from their row numbers and fused content vectors; new rows need no training."""
        ...

    def people(
        self, pasts: Sequence[Past], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: Moments = None
    ) -> list[Interests]:
        """Place people.

        Args:
            pasts: What each did.
            vectors: For each person, the vectors of the items of their past, as `items` gives them.
            now: The moment of asking, one for all or one for each; that of their newest event if None.

        """
        ...


def moments_of(pasts: Sequence[Past], now: Moments) -> list[int]:
    """Return when each person asks: never before their newest event, and then where nothing is said."""
    newest = [int(past.times[-1]) if len(past) else 0 for past in pasts]
    if now is None:
        return newest
    return np.maximum(newest, now).tolist()
