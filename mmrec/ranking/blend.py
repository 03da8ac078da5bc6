"""Several lists into one, each with the seats its weight earns.

Scores of different interests cannot be compared: an interest in a crowded corner of the catalog finds higher cosines
than one in a sparse corner, and by the highest score it would take the whole list. By turns alone a passing interest
would get as much as the main one. Seats by weight give each interest its share, and each in its own order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

__all__ = ["Blended", "blend"]


@dataclass(frozen=True, slots=True, eq=False)
class Blended:
    """One list made of several.

    Attributes:
        rows: Row numbers, best first, each once.
        lists: Which list each came from.
        places: Its place there.

    """

    rows: Int64[np.ndarray, " n"]
    lists: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)


def blend(
    lists: Sequence[Int64[np.ndarray, " _"]], weights: Sequence[float] | Float32[np.ndarray, " m"], most: int
) -> Blended:
    """Fill seats one by one, each from the list with the greatest weight over the seats it would then have.

    These are the highest averages of D'Hondt: any beginning of the result is divided by weight as well as whole seats
    can be. Ties go to the earlier list. A row that several lists have takes a seat of the one that comes to it first;
    a list that is used up leaves its seats to the others.

    Args:
        lists: Row numbers, best first.
        weights: Weight of each list, 0 or more; a list without weight only fills up what the others leave.
        most: How many rows at most.

    """
    waiting = [one.tolist() for one in lists]
    strengths = [float(weight) for weight in weights]
    averages = strengths.copy()
    seats, nexts = [0] * len(waiting), [0] * len(waiting)
    taken: set[int] = set()
    picked: list[tuple[int, int, int]] = []
    while len(picked) < most:
        best = -1
        for which, rows in enumerate(waiting):
            while nexts[which] < len(rows) and rows[nexts[which]] in taken:
                nexts[which] += 1
            if nexts[which] < len(rows) and (best < 0 or averages[which] > averages[best]):
                best = which
        if best < 0:
            break
        row = waiting[best][nexts[best]]
        picked.append((row, best, nexts[best]))
        taken.add(row)
        seats[best] += 1
        averages[best] = strengths[best] / (seats[best] + 1)
    table = np.array(picked, dtype=np.int64).reshape(-1, 3)
    return Blended(table[:, 0], table[:, 1], table[:, 2])
