"""User models: the protocol that places users beside items, the history they read, and the interests they give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmrec.events.histories import Histories

RequestTimes: TypeAlias = int | Int64[np.ndarray, " users"] | None
"""When recommendations are requested, in microseconds since 1970: one time for all users, or one for each."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The events of one user up to a time, oldest first; may be empty.

    Attributes:
        rows: Row number of each event's item.
        kinds: Name of each event's kind.
        weights: Weight of each event, of its kind and its rating; below 0 is negative feedback.
        times: Microseconds since 1970 in UTC, ascending.
        strengths: Normalised rating of each event, see `mmrec.events.ratings`, NaN where it has none; None without any.

    """

    rows: Int64[np.ndarray, " n"]
    kinds: tuple[str, ...]
    weights: Float32[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    strengths: Float32[np.ndarray, " n"] | None = None

    @classmethod
    def of(cls, histories: Histories, weights: Float32[np.ndarray, " n"], span: slice) -> Self:
        """Take a span of the events of many users; `weights` are those of all these events."""
        kinds = tuple(histories.kind_names[kind] for kind in histories.kinds[span].tolist())
        strengths = None if histories.strengths is None else histories.strengths[span]
        return cls(histories.items[span], kinds, weights[span], histories.times[span], strengths)

    def __len__(self) -> int:
        """Number of events."""
        return len(self.rows)

    @property
    def positive_kinds(self) -> Bool[np.ndarray, " n"]:
        """Which events are of positive kinds, whatever their ratings."""
        if self.strengths is None:
            return self.weights > 0
        signs = np.nan_to_num(self.strengths, nan=1.0)
        return (self.weights * signs > 0) | (signs == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Interests:
    """One user as vectors in the space of the items.

    Attributes:
        vectors: Unit vectors, the strongest interest first; none where nothing is known of the user.
        weights: Share of each, adding up to 1.
        short_share: Share of the short term, the newest events, in them, 0 to 1; the rest is long-term.

    """

    vectors: Float32[np.ndarray, "m dim"]
    weights: Float32[np.ndarray, " m"]
    short_share: float

    @classmethod
    def none(cls, dim: int) -> Self:
        """Interests of a user of whom nothing is known."""
        return cls(np.zeros((0, dim), dtype=np.float32), np.zeros(0, dtype=np.float32), 0.0)


@runtime_checkable
class UserModel(Protocol):
    """Maps items and users into one space, where the inner product of unit vectors says how well they match."""

    @property
    def name(self) -> str:
        """Its name in tables and manifests."""

    @property
    def dim(self) -> int:
        """Length of its vectors."""

    def items(
        self, rows: Int64[np.ndarray, " n"], contents: Float32[np.ndarray, "n content"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Return unit vectors of items from their row numbers and fused content vectors; new rows need no training."""

    def users(
        self, histories: Sequence[History], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: RequestTimes = None
    ) -> list[Interests]:
        """Return the interests of users, from their histories and the vectors of the items of each.

        `now` is when recommendations are requested; the time of each user's newest event if None.
        """


def request_times(histories: Sequence[History], now: RequestTimes) -> list[int]:
    """Return the time of each user's request: never before their newest event, whose time it is where `now` is None."""
    newest = [int(history.times[-1]) if len(history) else 0 for history in histories]
    return newest if now is None else np.maximum(newest, now).tolist()
