"""Clean events before training: robots, duplicates, impossible times. The log keeps all events."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

from mmrec.errors import UsageError
from mmrec.events.event import EventArrays
from mmrec.events.histories import KnownItems
from mmrec.events.kinds import Kinds

_1990: Final = 631_152_000_000_000


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Rules of cleaning, in the order of their application.

    Attributes:
        kinds: Events of kinds without a weight are dropped.
        earliest: Earliest possible time, in microseconds since 1970; by default the year 1990.
        max_clock_skew: How far in the future a time may lie.
        robot_events: Users with this many events in a `robot_window` are dropped as robots. The busiest of the 943
            users of MovieLens 100K, who rate lists of films, stay below 600 in an hour.
        robot_window: Length of that window.
        collapsed: Kinds whose repetitions are dropped.
        collapse_within: A repetition has the same user, item and kind at most this long after the last one.
        user_events: Users with fewer events are dropped.
        item_events: Items with fewer events are dropped.
        iterate: Whether the last two are repeated until both hold.

    """

    kinds: Kinds = field(default_factory=Kinds)
    earliest: int = _1990
    max_clock_skew: timedelta = timedelta(days=1)
    robot_events: int = 1000
    robot_window: timedelta = timedelta(hours=1)
    collapsed: tuple[str, ...] = ("view",)
    collapse_within: timedelta = timedelta(minutes=30)
    user_events: int = 1
    item_events: int = 1
    iterate: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for impossible numbers, and unknown kinds."""
        if self.robot_events < 2 or self.user_events < 1 or self.item_events < 1:
            raise UsageError("robot_events must be 2 or more, user_events and item_events 1 or more.")
        odd = [name for name in self.collapsed if name not in self.kinds.names]
        if odd:
            raise UsageError(
                f"{odd[0]!r} cannot be collapsed: there is no such kind. Kinds are {', '.join(self.kinds.names)}."
            )


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """One step: `removed` events, so that `left` remained."""

    name: str
    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """The number of events before cleaning, each step in order, and the number of robots.

    `unknown_items` counts item ids without an item; their events are excluded, and count again once the items exist.
    """

    events: int
    steps: tuple[CleaningStep, ...]
    robots: int
    unknown_items: int


def clean(
    events: EventArrays, rules: Cleaning | None = None, known: KnownItems | None = None, now: int | None = None
) -> tuple[EventArrays, CleaningReport]:
    """Clean the events of a log, and order them by user, time, and tie-breaker.

    Without `known` items no item is unknown; `now` is in microseconds since 1970, the clock's if None. Returns the
    remaining events, kinds coded in the order of `rules.kinds`, and the report.
    """
    rules = Cleaning() if rules is None else rules
    limit = (time.time_ns() // 1000 if now is None else now) + rules.max_clock_skew // timedelta(microseconds=1)
    total = len(events)
    steps: list[CleaningStep] = []

    def step(name: str, keep: Callable[[EventArrays], Bool[np.ndarray, " n"]]) -> EventArrays:
        left = events.take(keep(events))
        steps.append(CleaningStep(name, len(events) - len(left), len(left)))
        return left

    events = _coded(events, rules.kinds)
    events = step("kinds without a weight", lambda some: some.kinds >= 0)
    events = step("impossible times", lambda some: (some.times >= rules.earliest) & (some.times <= limit))
    events = events.take(np.lexsort((events.order, events.times, events.users)).astype(np.int64))
    events = step("duplicates", _are_no_duplicate)
    robots = _robots(events, rules)
    events = step("robots", lambda some: ~robots[some.users])
    rows = None if known is None else known.rows_of(events.item_ids)
    present = np.unique(events.items)
    unknown = 0 if rows is None else int((rows[present] < 0).sum())
    events = step("unknown items, set aside", lambda some: some.kinds >= 0 if rows is None else rows[some.items] >= 0)
    events = step("repeated", lambda some: _are_no_repetition(some, rules))
    events = step("too few events of a user or an item", lambda some: _have_enough(some, rules))
    return events, CleaningReport(total, tuple(steps), int(robots.sum()), unknown)


def _coded(events: EventArrays, kinds: Kinds) -> EventArrays:
    """The same events with kinds coded in the order of the weights; -1 for unknown kinds."""
    codes = [kinds.names.index(name) if name in kinds.names else -1 for name in events.kind_names]
    coded = np.array([*codes, -1], dtype=np.int16)[events.kinds]
    return replace(events, kinds=coded, kind_names=kinds.names)


def _are_no_duplicate(events: EventArrays) -> Bool[np.ndarray, " n"]:
    """Which events are no duplicate of an earlier one: user, item, kind and time."""
    order = np.lexsort((events.order, events.kinds, events.items, events.times, events.users))
    alike = _same_as_before(events.users, order) & _same_as_before(events.items, order)
    alike &= _same_as_before(events.kinds, order) & _same_as_before(events.times, order)
    return _in_original_order(~alike, order)


def _robots(events: EventArrays, rules: Cleaning) -> Bool[np.ndarray, " users"]:
    """Which users did too much in too little time; events are ordered by user and time."""
    robots = np.zeros(len(events.user_ids), dtype=bool)
    last, first = events.users[rules.robot_events - 1 :], events.users[: len(events) - rules.robot_events + 1]
    if len(events) >= rules.robot_events:
        took = events.times[rules.robot_events - 1 :] - events.times[: len(events) - rules.robot_events + 1]
        robots[last[(last == first) & (took < rules.robot_window // timedelta(microseconds=1))]] = True
    return robots


def _are_no_repetition(events: EventArrays, rules: Cleaning) -> Bool[np.ndarray, " n"]:
    """Which events are no repetition of an event of a collapsed kind."""
    collapsible = np.isin(events.kinds, [rules.kinds.names.index(name) for name in rules.collapsed])
    order = np.lexsort((events.order, events.times, events.kinds, events.items, events.users))
    again = _same_as_before(events.users, order) & _same_as_before(events.items, order)
    again &= _same_as_before(events.kinds, order)
    soon = np.diff(events.times[order], prepend=0) <= rules.collapse_within // timedelta(microseconds=1)
    return ~collapsible | _in_original_order(~(again & soon), order)


def _have_enough(events: EventArrays, rules: Cleaning) -> Bool[np.ndarray, " n"]:
    """Which events are of items and users with enough of them; an item's events are counted first."""
    keep = np.ones(len(events), dtype=bool)
    while True:
        before = int(keep.sum())
        keep &= np.bincount(events.items[keep], minlength=len(events.item_ids))[events.items] >= rules.item_events
        keep &= np.bincount(events.users[keep], minlength=len(events.user_ids))[events.users] >= rules.user_events
        if not rules.iterate or int(keep.sum()) == before:
            return keep


def _same_as_before(column: np.ndarray, order: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether each value, in an order, equals the one before it."""
    ordered = column[order]
    return np.concatenate([np.zeros(min(1, len(order)), dtype=bool), ordered[1:] == ordered[:-1]])


def _in_original_order(flags: Bool[np.ndarray, " n"], order: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Undo an order: flags in the original order of the events."""
    placed = np.empty(len(flags), dtype=bool)
    placed[order] = flags
    return placed
