"""Events made for tests."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import strategies as st

from mmrec.events.event import Event, EventArrays, load_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import LOG_SCHEMA
from mmrec.events.prepare import prepare_events

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """Return a moment so many minutes into 2024."""
    return START + timedelta(minutes=minutes)


def micro(minutes: float) -> int:
    """Return the same in microseconds since 1970."""
    return (at(minutes) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def arrays(events: list[Event]) -> EventArrays:
    """Return what a log to which these were appended in this order gives."""
    if not events:
        return load_events([])
    table = prepare_events(events, Kinds()).events
    seq = pa.array(range(1, len(events) + 1), pa.int64())
    table = table.add_column(0, LOG_SCHEMA.field("seq"), seq).cast(LOG_SCHEMA)
    return load_events(table.to_batches(max_chunksize=7))


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(str.strip)
few = st.sampled_from(["a", "b", "c", "d"])
kinds = st.sampled_from(list(Kinds().names))
events = st.builds(
    Event,
    user=few,
    item=st.sampled_from([f"i{number}" for number in range(6)]),
    kind=kinds,
    time=st.integers(0, 300).map(at),
    value=st.none() | st.floats(-5, 5, width=32),
)
"""Events of few people and items, so that they meet."""
