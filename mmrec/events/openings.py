"""The first events of some users, each with what the same user did next: questions about newcomers, from a log."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.events.histories import Histories

__all__ = ["DecayedPopularity", "Opening", "openings"]

_DAY: Final = 86_400_000_000
_AHEAD: Final = 10
_SETTLED: Final = 0.2
_LIVES: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """One user after a few events.

    Attributes:
        person: Place of the user in the histories.
        known: Number of events.
        past: Where they lie in the histories.
        targets: Row numbers of the items that the user met in the next ten events and liked.
        moment: When the first of these was, microseconds since 1970.

    """

    person: int
    known: int
    past: slice
    targets: Int64[np.ndarray, " t"]
    moment: int


def openings(
    histories: Histories, weights: Float32[np.ndarray, " n"], counts: tuple[int, ...], people: int, seed: int = 0
) -> list[Opening]:
    """Ask about each of so many users after each number of events, as far as they go on; drawn by the seed.

    Who came in the first fifth of the time of all events is not asked about: nothing was popular yet.

    Args:
        histories: What people did.
        weights: Weight of each event.
        counts: Numbers of events after which is asked.
        people: Most users that are asked about.
        seed: Of the users drawn.

    """
    if not len(histories):
        return []
    settled = np.quantile(histories.times, _SETTLED)
    able = np.flatnonzero((histories.lengths > min(counts)) & (histories.times[histories.offsets[:-1]] >= settled))
    drawn = np.sort(np.random.default_rng(seed).permutation(able)[:people])
    found = []
    for person in drawn.tolist():
        start, stop = histories.offsets[person : person + 2].tolist()
        for known in counts:
            first = start + known
            ahead = np.arange(first, min(first + _AHEAD, stop))
            liked = ahead[weights[ahead] > 0]
            targets = np.setdiff1d(histories.items[liked], histories.items[start:first])
            if len(targets):
                found.append(Opening(person, known, slice(start, first), targets, int(histories.times[first])))
    return found


class DecayedPopularity:
    """Popularity as it was at any moment: sums of the weights of events, halved with every week of age."""

    def __init__(
        self, histories: Histories, weights: Float32[np.ndarray, " n"], rows: Int64[np.ndarray, " items"]
    ) -> None:
        """Take all events; `rows` are ascending, and items that are not among them do not count."""
        places = np.searchsorted(rows, histories.items)
        there = rows[np.minimum(places, len(rows) - 1)] == histories.items if len(rows) else places < 0
        order = np.argsort(histories.times[there], kind="stable")
        self._count = len(rows)
        self._places, self._weights = places[there][order], weights[there][order]
        self._times = histories.times[there][order]

    def at(self, moment: int, half_days: float = 7.0) -> Float32[np.ndarray, " items"]:
        """Popularity of each item by what came before a moment; 0 for what was not liked, all in all."""
        life = half_days * _DAY
        first, last = np.searchsorted(self._times, [moment - int(_LIVES * life), moment]).tolist()
        fades = 0.5 ** ((moment - self._times[first:last]) / life)
        sums = np.bincount(self._places[first:last], self._weights[first:last] * fades, self._count)
        return np.maximum(0, sums).astype(np.float32)
