"""Statistics of an event log and of its ratings."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
from sqlalchemy import func, select

from mmrec.events.database import EVENTS, REFUSED
from mmrec.events.event import load_events
from mmrec.events.histories import KnownItems
from mmrec.events.kinds import Kinds
from mmrec.events.log import EventLog
from mmrec.events.ratings import read_ratings, strengths_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class EventStats:
    """Counts of a log; `by_kind` is ordered by count, `density` is events by users times items.

    `history_lengths` are quantiles of the events per user, `unknown_items` counts items that the store does not have,
    `unknown_share` the share of their events.
    """

    events: int
    users: int
    items: int
    by_kind: Mapping[str, int]
    first: datetime | None
    last: datetime | None
    density: float
    history_lengths: Mapping[str, float]
    unknown_items: int
    unknown_share: float
    refused: int


@dataclass(frozen=True, slots=True)
class RatingStats:
    """How the ratings of one kind are read: range, mean, and how many count as likes and as dislikes."""

    kind: str
    ratings: int
    low: float
    high: float
    mean: float
    likes: int
    dislikes: int


def rating_stats(log: EventLog, kinds: Kinds, most: int = 500_000) -> list[RatingStats]:
    """Read the ratings of a log, at most the newest `most` events."""
    events = load_events(log.scan(max(0, log.newest() - most)))
    events = events.take(np.lexsort((events.order, events.times, events.users)))
    strengths = strengths_of(events, read_ratings(events, kinds))
    found = []
    for code, name in enumerate(events.kind_names):
        which = (events.kinds == code) & ~np.isnan(strengths)
        if which.any():
            values, likes = events.values[which].astype(np.float64), int((strengths[which] > 0).sum())
            ends = float(values.min()), float(values.max()), float(values.mean())
            found.append(RatingStats(name, len(values), *ends, likes, len(values) - likes))
    return found


def event_stats(log: EventLog, known: KnownItems) -> EventStats:
    """Count a log; besides counts, memory is for one number a user and the ids of the items."""
    ends = func.min(EVENTS.c.time), func.max(EVENTS.c.time)
    kinds = list(log.query(select(EVENTS.c.kind, func.count(), *ends).group_by(EVENTS.c.kind)))
    per_user = select(func.count()).select_from(EVENTS).group_by(EVENTS.c.user)
    lengths = np.array([count for (count,) in log.query(per_user)], dtype=np.int64)
    items = list(log.query(select(EVENTS.c.item, func.count()).group_by(EVENTS.c.item)))
    counts = np.array([count for _, count in items], dtype=np.int64)
    missing = known.rows_of(pa.array([item for item, _ in items], pa.string())) < 0
    refused = next(iter(log.query(select(func.coalesce(func.sum(REFUSED.c["count"]), 0)))))[0]
    events = int(lengths.sum())
    return EventStats(
        events=events,
        users=len(lengths),
        items=len(items),
        by_kind={row[0]: row[1] for row in sorted(kinds, key=lambda row: (-row[1], row[0]))},
        first=_EPOCH + timedelta(microseconds=min(row[2] for row in kinds)) if kinds else None,
        last=_EPOCH + timedelta(microseconds=max(row[3] for row in kinds)) if kinds else None,
        density=events / (len(lengths) * len(items)) if events else 0.0,
        history_lengths={
            f"{one:.0%}": float(np.quantile(lengths, one, method="inverted_cdf")) for one in _QUANTILES if len(lengths)
        },
        unknown_items=int(missing.sum()),
        unknown_share=float(counts[missing].sum() / events) if events else 0.0,
        refused=int(refused),
    )
