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


def speaking(histories: Histories, kinds: Kinds) -> Bool[np.ndarray, " n"]:
    """Which events speak for their item."""
    return histories.weights(kinds.weights) > 0


def counts(histories: Histories, candidates: Candidates, kinds: Kinds) -> Int64[np.ndarray, " items"]:
    """Number of events that speak for each candidate."""
    places = candidates.places(histories.items[speaking(histories, kinds)])
    return np.bincount(places[places >= 0], minlength=len(candidates)).astype(np.int64)


def past_matrix(pasts: Sequence[History], candidates: Candidates, half_life: float = np.inf) -> sp.csr_array:
    """What each person did, as a row of weights over the candidates; what is no candidate is left out.

    An event's weight is that of its kind, halved with every `half_life` events that came after it.
    """
    lengths = [len(past) for past in pasts]
    shape = (len(pasts), len(candidates))
    if not sum(lengths):
        return sp.csr_array(shape, dtype=np.float32)
    lines = np.repeat(np.arange(len(pasts)), lengths)
    columns = candidates.places(np.concatenate([past.rows for past in pasts]))
    ages = np.concatenate([np.arange(length)[::-1] for length in lengths])
    weights = np.concatenate([past.weights for past in pasts]) * np.exp2(-ages / half_life)
    there = columns >= 0
    entries = (weights[there].astype(np.float32), (lines[there], columns[there]))
    return sp.coo_array(entries, shape=shape).tocsr()


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Events to predict, each with what is known of its person by then.

    Attributes:
        live: All histories.
        weights: Weight of each event of `live`.
        targets: Place in `live` of each event to predict.
        starts: Where the past that a model sees begins.
        stops: Where it ends; what the person did from there on is not known to anyone.
        now: The moment of asking, microseconds since 1970.

    """

    live: Histories
    weights: Float32[np.ndarray, " n"]
    targets: Int64[np.ndarray, " q"]
    starts: Int64[np.ndarray, " q"]
    stops: Int64[np.ndarray, " q"]
    now: Int64[np.ndarray, " q"]

    @classmethod
    def of(cls, split: Split, kinds: Kinds | None = None, *, validation: bool = False) -> Self:
        """Ask for all targets of a split, or all of its validation, each with the history that it had by then."""
        weights = split.live.weights((Kinds() if kinds is None else kinds).weights)
        targets = split.validation if validation else split.targets
        starts = split.live.offsets[split.live.owners[targets]]
        return cls(split.live, weights, targets, starts, targets, split.live.times[targets])

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.targets)

    @property
    def people(self) -> Int64[np.ndarray, " q"]:
        """Place in `live` of each question's person."""
        return np.searchsorted(self.live.offsets, self.targets, side="right") - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " q"]:
        """Number of events that are known of each person when they ask."""
        return self.stops - self.starts

    @property
    def repeats(self) -> Bool[np.ndarray, " q"]:
        """Whether the person had met the target's item before."""
        order = np.lexsort((np.arange(len(self.live.items)), self.live.items, self.live.owners))
        owners, items = self.live.owners[order], self.live.items[order]
        again = np.zeros(len(order), dtype=bool)
        again[order[1:]] = (owners[1:] == owners[:-1]) & (items[1:] == items[:-1])
        return again[self.targets]

    def take(self, which: Bool[np.ndarray, " q"] | Int64[np.ndarray, " m"]) -> Self:
        """The questions of a mask, or of places in their order."""
        parts = {name: getattr(self, name)[which] for name in ("targets", "starts", "stops", "now")}
        return replace(self, **parts)

    def answerable(self, candidates: Candidates, *, allow_seen: bool = False) -> Self:
        """Those with an answer: the target is a candidate, and was not met before unless that is allowed."""
        can = candidates.places(self.live.items[self.targets]) >= 0
        return self.take(can if allow_seen else can & ~self.repeats)

    def of_people(self, most: int, seed: int = 0) -> Self:
        """The questions of so many people at most, drawn by the seed: people may be sampled, what is ranked may not."""
        asking = np.unique(self.people)
        if len(asking) <= most:
            return self
        return self.take(np.isin(self.people, np.random.default_rng(seed).choice(asking, most, replace=False)))

    def newest(self, events: int) -> Self:
        """The same questions to a service that knows only so many of the newest events of each person.

        What the person met before stays out of the ranking all the same: so the targets and their rivals are those of
        the full history, and what is lost is lost by knowing less.
        """
        return replace(self, starts=np.maximum(self.starts, self.stops - events))

    def opening(self, events: int, ahead: int = 10) -> Self:
        """Ask for newcomers once, after so many events: the next few are the targets of one and the same list.

        Newcomers are those whose first event is a target already, so that nothing was learned of them. Nothing that
        comes after the moment of asking is known, the targets before included.
        """
        first = self.live.offsets[self.people]
        newcomers = np.isin(first, self.targets)
        stops = first + events
        chosen = newcomers & (self.targets >= stops) & (self.targets < stops + ahead)
        return replace(self.take(chosen), stops=stops[chosen], now=self.live.times[stops[chosen]])

    def at_once(self) -> Self:
        """Ask each person once, before their first target: all their targets are those of one and the same list."""
        first = np.full(len(self.live), len(self.live.times), dtype=np.int64)
        np.minimum.at(first, self.people, self.targets)
        stops = first[self.people]
        return replace(self, stops=stops, now=self.live.times[stops])

    def alike(self) -> Int64[np.ndarray, " q"]:
        """Place of the first question that asks the same: with the same past, at the same moment."""
        asked = np.stack([self.starts, self.stops, self.people, self.now])
        _, first, inverse = np.unique(asked, axis=1, return_index=True, return_inverse=True)
        return first[inverse.ravel()]

    def pasts(self, places: Sequence[int] | Int64[np.ndarray, " m"] | range) -> list[History]:
        """What a model is told of some of the questions' people."""
        return [self._past(slice(int(self.starts[place]), int(self.stops[place]))) for place in places]

    def met(self, place: int) -> Int64[np.ndarray, " m"]:
        """Row numbers of all items that a question's person had met when asking."""
        target = self.targets[place]
        start = self.live.offsets[np.searchsorted(self.live.offsets, target, side="right") - 1]
        return self.live.items[int(start) : int(self.stops[place])]

    def _past(self, span: slice) -> History:
        names = self.live.kind_names
        kinds = tuple(names[kind] for kind in self.live.kinds[span].tolist())
        strengths = None if self.live.strengths is None else self.live.strengths[span]
        return History(self.live.items[span], kinds, self.weights[span], self.live.times[span], strengths)
