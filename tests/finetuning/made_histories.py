"""Histories of a few people, in whole minutes."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmrec.events.histories import Histories

MINUTE = 60_000_000


def histories_of(events: Sequence[tuple[int, int, int]]) -> Histories:
    """Take (person, item's row, minute) in the order in which they were told."""
    ordered = sorted(events, key=lambda event: (event[0], event[2]))
    people = sorted({person for person, _, _ in ordered})
    owners = np.array([people.index(person) for person, _, _ in ordered], dtype=np.int64)
    return Histories(
        pa.array([f"{person:04}" for person in people], pa.string()),
        np.searchsorted(owners, np.arange(len(people) + 1)).astype(np.int64),
        np.array([item for _, item, _ in ordered], dtype=np.int64),
        np.zeros(len(ordered), dtype=np.int16),
        np.array([minute * MINUTE for _, _, minute in ordered], dtype=np.int64),
        np.full(len(ordered), np.nan, dtype=np.float32),
        ("like",),
    )
