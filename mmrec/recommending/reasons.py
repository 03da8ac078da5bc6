"""Which items of the past speak for an item, and by which modality."""

from typing import Final

import numpy as np
from jaxtyping import Float32

from mmrec.behaviour.ratings import FAIR
from mmrec.fusion.fusion import Fusion
from mmrec.recommending.answer import Because
from mmrec.recommending.person import Person
from mmrec.unit import unit

__all__ = ["reasons"]

MOST: Final = 3
"""Reasons a list item has at most; more would explain nothing."""


def reasons(
    fusion: Fusion, person: Person, past: Float32[np.ndarray, "n dim"], items: Float32[np.ndarray, "m dim"]
) -> list[tuple[Because, ...]]:
    """Return for each item the liked items of the past that are most like it by content, each once.

    An item that was rated below average is no reason, even where it counts a little for what is like it.

    Args:
        fusion: Knows the modalities of the vectors.
        person: Whose past it is.
        past: Fused vectors of the past's items, event by event.
        items: Fused vectors of the items to explain.

    """
    good = person.past.weights > 0
    if person.past.strengths is not None:
        good &= ~(person.past.strengths < FAIR)
    latest = {int(person.past.rows[place]): place for place in np.flatnonzero(good).tolist()}
    against = set(person.turned_down.tolist())
    places = np.array(sorted(place for row, place in latest.items() if row not in against), dtype=np.int64)
    if not len(places):
        return [()] * len(items)
    likeness = unit(items) @ unit(past[places]).T
    best = np.argsort(-likeness, axis=1, kind="stable")[:, :MOST]
    return [
        tuple(
            _because(fusion, person, int(places[one]), past[places[one]], item)
            for one in order.tolist()
            if row[one] > 0
        )
        for item, row, order in zip(items, likeness, best, strict=True)
    ]


def _because(
    fusion: Fusion, person: Person, place: int, past: Float32[np.ndarray, " dim"], item: Float32[np.ndarray, " dim"]
) -> Because:
    length = float(np.linalg.norm(past) * np.linalg.norm(item))
    shares = {name: share / length for name, share in fusion.shares(past, item).items()}
    return Because(person.ids[place], person.past.kinds[place], sum(shares.values()), shares)
