"""Evaluation cases: a user's history, the held-out targets, and the candidate items that are ranked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Int64

from mmrec.errors import UsageError
from mmrec.events.histories import Histories
from mmrec.events.kinds import Kinds
from mmrec.events.splits import Split
from mmrec.users.model import History


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """All items that can be recommended. A score's column is an item's place here.

    Attributes:
        rows: Row numbers, ascending.
        vectors: Fused content vectors: unit length, shorter where an item lacks a modality that others have, zero where
            it has no content; None where there are none.
        categories: Share of each category in each item, adding up to 1, or to 0 where nothing is known; None where no
            column was named.

    """

    rows: Int64[np.ndarray, " items"]
    vectors: Float32[np.ndarray, "items dim"] | None = None
    categories: Float32[np.ndarray, "items categories"] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError where rows are not ascending."""
        if not (self.rows[1:] > self.rows[:-1]).all():
            raise UsageError("The row numbers of the candidates must be ascending, each once: sort them first.")

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def places(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Place of each row number, -1 where it is not among the candidates."""
        if not len(self.rows):
            return np.full(len(rows), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[found] == rows, found, -1).astype(np.int64)


def positive_events(histories: Histories, kinds: Kinds) -> Bool[np.ndarray, " n"]:
    """Which events are positive."""
    return histories.weights(kinds.weights) > 0


def positive_counts(histories: Histories, candidates: Candidates, kinds: Kinds) -> Int64[np.ndarray, " items"]:
    """Number of positive events of each candidate."""
    places = candidates.places(histories.items[positive_events(histories, kinds)])
    return np.bincount(places[places >= 0], minlength=len(candidates)).astype(np.int64)


def history_matrix(histories: Sequence[History], candidates: Candidates, half_life: float = np.inf) -> sp.csr_array:
    """Weights of each user's events over the candidates, a row each, halved with every `half_life` later events."""
    lengths = [len(past) for past in histories]
    shape = (len(histories), len(candidates))
    if not sum(lengths):
        return sp.csr_array(shape, dtype=np.float32)
    lines = np.repeat(np.arange(len(histories)), lengths)
    columns = candidates.places(np.concatenate([past.rows for past in histories]))
    ages = np.concatenate([np.arange(length)[::-1] for length in lengths])
    weights = np.concatenate([past.weights for past in histories]) * np.exp2(-ages / half_life)
    there = columns >= 0
    entries = (weights[there].astype(np.float32), (lines[there], columns[there]))
    return sp.coo_array(entries, shape=shape).tocsr()


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationCases:
    """Events to predict, each with the history of its user by then.

    Targets are places in `live`, as are the starts and stops of the histories that a model sees; `weights` are those of
    all events of `live`, and `now` is the time of each request in microseconds since 1970.
    """

    live: Histories
    weights: Float32[np.ndarray, " n"]
    targets: Int64[np.ndarray, " q"]
    starts: Int64[np.ndarray, " q"]
    stops: Int64[np.ndarray, " q"]
    now: Int64[np.ndarray, " q"]

    @classmethod
    def of(cls, split: Split, kinds: Kinds | None = None) -> Self:
        """All targets of a split, each with the history before it."""
        weights = split.live.weights((Kinds() if kinds is None else kinds).weights)
        targets = split.targets
        starts = split.live.offsets[split.live.owners[targets]]
        return cls(split.live, weights, targets, starts, targets, split.live.times[targets])

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.targets)

    @property
    def users(self) -> Int64[np.ndarray, " q"]:
        """Place in `live` of each case's user."""
        return np.searchsorted(self.live.offsets, self.targets, side="right") - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " q"]:
        """Number of known events of each user."""
        return self.stops - self.starts

    @property
    def repeats(self) -> Bool[np.ndarray, " q"]:
        """Whether the user has seen the target's item before."""
        order = np.lexsort((np.arange(len(self.live.items)), self.live.items, self.live.owners))
        owners, items = self.live.owners[order], self.live.items[order]
        again = np.zeros(len(order), dtype=bool)
        again[order[1:]] = (owners[1:] == owners[:-1]) & (items[1:] == items[:-1])
        return again[self.targets]

    def take(self, which: Bool[np.ndarray, " q"] | Int64[np.ndarray, " m"]) -> Self:
        """The cases of a mask, or of places in their order."""
        parts = {name: getattr(self, name)[which] for name in ("targets", "starts", "stops", "now")}
        return replace(self, **parts)

    def answerable(self, candidates: Candidates, *, allow_seen: bool = False) -> Self:
        """Those whose target is a candidate, and was not seen before unless that is allowed."""
        can = candidates.places(self.live.items[self.targets]) >= 0
        return self.take(can if allow_seen else can & ~self.repeats)

    def sample_users(self, most: int, seed: int = 0) -> Self:
        """The cases of so many users at most, drawn by the seed: users may be sampled, ranked items may not."""
        asking = np.unique(self.users)
        if len(asking) <= most:
            return self
        return self.take(np.isin(self.users, np.random.default_rng(seed).choice(asking, most, replace=False)))

    def with_newest_events(self, events: int) -> Self:
        """The same cases with only so many of the newest events in the history.

        Items seen before stay out of the ranking all the same, so that targets and candidates are those of the full
        history.
        """
        return replace(self, starts=np.maximum(self.starts, self.stops - events))

    def after_first_events(self, events: int, ahead: int = 10) -> Self:
        """One list for each new user after so many events; the next few events are its targets.

        New users are those whose first event is a target already, so that they are not in the training events.
        """
        first = self.live.offsets[self.users]
        newcomers = np.isin(first, self.targets)
        stops = first + events
        chosen = newcomers & (self.targets >= stops) & (self.targets < stops + ahead)
        return replace(self.take(chosen), stops=stops[chosen], now=self.live.times[stops[chosen]])

    def one_per_user(self) -> Self:
        """One list for each user, before their first target; all their targets are those of this list."""
        first = np.full(len(self.live), len(self.live.times), dtype=np.int64)
        np.minimum.at(first, self.users, self.targets)
        stops = first[self.users]
        return replace(self, stops=stops, now=self.live.times[stops])

    def first_duplicate(self) -> Int64[np.ndarray, " q"]:
        """Place of the first case with the same history and time."""
        keys = np.stack([self.starts, self.stops, self.users, self.now])
        _, first, inverse = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        return first[inverse.ravel()]

    def histories(self, places: Sequence[int] | Int64[np.ndarray, " m"] | range) -> list[History]:
        """The histories that a model sees of some cases."""
        spans = [slice(int(self.starts[place]), int(self.stops[place])) for place in places]
        return [History.of(self.live, self.weights, span) for span in spans]

    def seen(self, place: int) -> Int64[np.ndarray, " m"]:
        """Row numbers of all items that a case's user has seen before it."""
        target = self.targets[place]
        start = self.live.offsets[np.searchsorted(self.live.offsets, target, side="right") - 1]
        return self.live.items[int(start) : int(self.stops[place])]
