"""One person, as far as events tell: a past over the rows of a store, and what must not be shown again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from mmrec.behaviour.kinds import Kinds
from mmrec.behaviour.ratings import Ratings, strengths_of_person
from mmrec.users.model import Past

__all__ = ["Did", "Person", "as_person"]


class Did(NamedTuple):
    """What was done with which item, when, in microseconds since 1970, and its value, such as stars."""

    item: str
    kind: str
    time: int
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person.

    Attributes:
        past: Events with items that there are, oldest first.
        ids: The id of each event's item.
        seen: Rows of the items met, ascending.
        turned_down: Rows of those whose latest event speaks against them, ascending.
        unknown: Ids that no item has, each once, in order.

    """

    past: Past
    ids: tuple[str, ...]
    seen: Int64[np.ndarray, " s"]
    turned_down: Int64[np.ndarray, " d"]
    unknown: tuple[str, ...]

    @property
    def events(self) -> int:
        """Number of events with items that there are."""
        return len(self.past)


def as_person(
    done: Sequence[Did], rows: Mapping[str, int], kinds: Kinds, ratings: Ratings = MappingProxyType({})
) -> Person:
    """Turn events, oldest first, into a person; an event whose kind has no weight says only that the item was met.

    Args:
        done: The events.
        rows: Row number of each item that there is.
        kinds: Weights of the kinds.
        ratings: How the values of ratings are read; without it they do not count.

    """
    there = [one for one in done if one.item in rows]
    found = np.array([rows[one.item] for one in there], dtype=np.int64)
    columns = ([one.item for one in there], [one.kind for one in there], [one.value for one in there])
    strengths = strengths_of_person(*columns, ratings)
    weights = kinds.of(columns[1]) * np.nan_to_num(strengths, nan=1.0)
    times = np.maximum.accumulate(np.array([one.time for one in there], dtype=np.int64))
    latest = {row: weight for row, weight in zip(found.tolist(), weights.tolist(), strict=True) if weight}
    against = sorted(row for row, weight in latest.items() if weight < 0)
    return Person(
        Past(found, tuple(columns[1]), weights, times, strengths if ratings else None),
        tuple(one.item for one in there),
        np.unique(found),
        np.array(against, dtype=np.int64),
        tuple(dict.fromkeys(one.item for one in done if one.item not in rows)),
    )
