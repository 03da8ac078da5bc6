"""Re-rank: blend ranked lists, diversify by a determinantal point process, lower scores by negative feedback."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int64

FLOOR: Final = 1e-6
"""Squared distance below which an item counts as a copy of a chosen one: the precision of float32 vectors."""


def greedy_dpp(
    relevance: Float32[np.ndarray, " n"],
    vectors: Float32[np.ndarray, "n dim"],
    k: int,
    diversity: float,
    window: int | None = None,
) -> Int64[np.ndarray, " k"]:
    """Choose k positions, each time the greatest ``(1 - diversity) relevance + diversity log(distance)``.

    `relevance` is from 0 to 1, vectors are unit vectors. The distance is that from the span of the vectors chosen so
    far, so that with kernel ``q_i q_j v_i v_j`` and ``log q`` proportional to relevance each choice gains the most of
    the log-determinant. Ties go to the earlier position. Only the last `window` choices repel, all if None: beyond as
    many choices as dimensions nothing is far from all, so a long feed needs a window.
    """
    count = min(k, len(relevance))
    seen = count if window is None else window
    doubles = np.asarray(vectors, dtype=np.float64)
    lengths = np.einsum("nd,nd->n", doubles, doubles)
    distances = lengths
    base = (1 - diversity) * np.asarray(relevance, dtype=np.float64)
    free = np.ones(len(doubles), dtype=bool)
    similarity = np.zeros((count, len(doubles)))
    rows = np.zeros((min(seen, count), len(doubles)))
    chosen: list[int] = []
    for turn in range(count):
        gain = np.where(free, base + diversity / 2 * np.log(np.maximum(distances, FLOOR)), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        free[best] = False
        similarity[turn] = doubles @ doubles[best]
        if turn < seen:
            rows[turn] = (similarity[turn] - rows[:turn, best] @ rows[:turn]) / np.sqrt(max(distances[best], FLOOR))
            distances = distances - rows[turn] ** 2
        else:
            distances = _distances(lengths, similarity[turn - seen + 1 : turn + 1], chosen[-seen:])
    return np.array(chosen, dtype=np.int64)


def _distances(
    lengths: Float64[np.ndarray, " n"], alike: Float64[np.ndarray, "w n"], chosen: list[int]
) -> Float64[np.ndarray, " n"]:
    """Squared distance of each vector from the span of some, computed from scratch: LAPACK is faster than updates."""
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415 - opening a store needs no SciPy

    lower = cholesky(alike[:, chosen] + FLOOR * np.eye(len(chosen)), lower=True)
    across = solve_triangular(lower, alike, lower=True)
    return lengths - np.einsum("wn,wn->n", across, across)


FEED: Final = 50
"""Beyond so many items a list is a feed: only its last `WINDOW` items repel the next."""
WINDOW: Final = 20


def diversify(
    relevance: Float32[np.ndarray, " n"], units: Float32[np.ndarray, "n dim"], k: int, diversity: float
) -> Int64[np.ndarray, " k"]:
    """Return the positions of k candidates to show, in order; all of n where it is fewer.

    `relevance` falls from 1 to 0, and never rises: without diversity the order is that of the candidates. `units` are
    unit vectors; a zero vector is unlike everything. `diversity` is 0 for relevance alone, 1 for diversity alone.
    """
    if diversity == 0:
        return np.arange(min(k, len(relevance)), dtype=np.int64)
    return greedy_dpp(relevance, _with_common_part(units), k, diversity, WINDOW if k > FEED else None)


def _with_common_part(units: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim_and_one"]:
    """Return unit vectors whose cosine is (1 + cosine) / 2.

    The volume that nearly orthogonal vectors span hardly depends on their cosines; with a common part it does, and
    opposites count as further apart than unrelated vectors.
    """
    return np.column_stack([units, np.ones(len(units), dtype=np.float32)]) / np.float32(np.sqrt(2))


MIN_COSINE: Final = 0.05
"""Cosine from which an item counts as similar to a disliked one: centred vectors of other subjects are about 0."""

PROTECTED_SHARE: Final = 0.5
"""Share of an item's score that outweighs its similarity to a disliked item.

Items near an interest are not lowered for a chance similarity to a disliked item of another subject. On four catalogs
of fifty items, 48 hides: the 20 nearest sink by 2 ranks and never rise, others keep their order (Kendall's tau .98).
"""


def feedback_penalties(
    cosines: Float32[np.ndarray, "n h"],
    strengths: Float32[np.ndarray, " h"],
    scores: Float32[np.ndarray, " n"],
    protected_share: float = PROTECTED_SHARE,
) -> Float32[np.ndarray, " n"]:
    """Return what items lose of their scores for being similar to disliked items.

    An item loses, for the disliked item that costs it most, its strength (0 to 1) times their cosine beyond
    `MIN_COSINE`, or beyond a share of its score where that is more. Items of other subjects lose nothing: their order
    does not change. `scores` are cosines with the interest that found the item, 0 where none did.
    """
    beyond = np.maximum(0, cosines - np.maximum(MIN_COSINE, protected_share * scores)[:, None])
    return (beyond * strengths).max(axis=1, initial=0).astype(np.float32)


TRAINED_PENALTY: Final = 5.0
"""Standard deviations of a trained model's scores, over its candidates, that one unit of content cosine costs.

ml-100k, leave-one-out, a tower of 32 dimensions. 60 users who rated three similar films 5 or 1, and three others high:
difference between their lists' mean cosines with the three films; NDCG@10 on validation and test. Before: .040, and
.0932, .0897. At 2.5: .063, and .0934, .0930; at 5: .108, and .0931, .0928; at 10: .136, and .0916, .0911; at 20: .149,
and .0921, .0886.
"""


def trained_feedback_penalties(
    cosines: Float32[np.ndarray, "n h"],
    strengths: Float32[np.ndarray, " h"],
    liked: Float32[np.ndarray, " n"],
    scores: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, " n"]:
    """Return what a trained model's candidates lose for being more similar to a disliked item than to any liked one.

    Such a model's scores are no content cosines, so the penalty is scaled to the spread of the scores. `liked` is the
    greatest content cosine of each item with a liked item; the others are as in `feedback_penalties`.
    """
    if not len(scores):
        return scores
    penalties = feedback_penalties(cosines, strengths, liked, protected_share=1.0)
    return penalties * np.float32(TRAINED_PENALTY * scores.std())


@dataclass(frozen=True, slots=True, eq=False)
class BlendedList:
    """One list made of several: row numbers, best first, each once; the list each came from, and its position there."""

    rows: Int64[np.ndarray, " n"]
    lists: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]


def blend(
    lists: Sequence[Int64[np.ndarray, " _"]], weights: Sequence[float] | Float32[np.ndarray, " m"], most: int
) -> BlendedList:
    """Fill seats one by one, each from the list with the greatest weight over the seats it would then have.

    These are the highest averages of D'Hondt: any beginning of the result is divided by weight as well as whole seats
    can be. Ties go to the earlier list. A row in several lists takes a seat of the one that comes to it first; a list
    that is used up, or has no weight, leaves its seats to the others.
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
    return BlendedList(table[:, 0], table[:, 1], table[:, 2])
