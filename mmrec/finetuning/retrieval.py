"""How well contents find what belongs to them: each question ranks a whole gallery, ties at their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.evaluation.accuracy import accuracy, mean_rank

__all__ = ["METRICS", "Asked", "Found", "ask", "pooled"]

METRICS = ("r@1", "r@10", "mrr")
"""Metrics that are means over questions; the median of the ranks is beside them."""

_SCORES = 2**24
"""Similarities in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Questions of one kind.

    Attributes:
        name: What is asked, as in ``text -> image``.
        queries: Row of the query vectors that each question asks with.
        answers: The answer of each, as a number of the gallery.
        gallery: The item that each row of the gallery's vectors belongs to, ascending; its nearest row counts.
        out: Item of the gallery that each question leaves out, itself mostly; -1 for none.
        units: What is drawn as one for intervals: the group or the person of each question.

    """

    name: str
    queries: Int64[np.ndarray, " q"]
    answers: tuple[Int64[np.ndarray, " _"], ...]
    gallery: Int64[np.ndarray, " rows"]
    out: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.queries)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where the answers stood: the best of them, where a question has several.

    Attributes:
        above: Number of items above the answer.
        tied: Number of items level with it, itself included.
        units: As in `Asked`.

    """

    above: Int64[np.ndarray, " q"]
    tied: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]

    def metric(self, name: str) -> Float64[np.ndarray, " q"]:
        """``r@1``, ``r@10`` or ``mrr`` of each question; what is tied is averaged over all orders."""
        if name == "mrr":
            most = int((self.above + self.tied).max(initial=1))
            return accuracy("mrr", most, self.above, self.tied)
        return accuracy("hr", int(name.removeprefix("r@")), self.above, self.tied)

    @property
    def median(self) -> float:
        """Median rank, from 1."""
        return float(np.median(mean_rank(self.above, self.tied))) if len(self.above) else float("nan")


def ask(asked: Asked, blocks: Sequence[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "rows _"]]]) -> Found:
    """Rank the gallery for each question, by the sum of its similarities in some spaces.

    Args:
        asked: The questions.
        blocks: For each space, the vectors that ask and those of the gallery.

    """
    starts = np.flatnonzero(np.diff(asked.gallery, prepend=-1))
    items = asked.gallery[starts]
    above, tied = np.empty(len(asked), dtype=np.int64), np.empty(len(asked), dtype=np.int64)
    step = max(1, _SCORES // max(1, len(asked.gallery)))
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        near = np.zeros((len(asked.queries[part]), len(asked.gallery)), dtype=np.float32)
        for queries, rows in blocks:
            near += queries[asked.queries[part]] @ rows.T
        scores = np.maximum.reduceat(near, starts, axis=1)
        scores[asked.out[part, None] == items] = -np.inf
        above[part], tied[part] = _standing(scores, items, asked.answers[part])
    return Found(above, tied, asked.units)


def _standing(
    scores: Float32[np.ndarray, "q items"], items: Int64[np.ndarray, " items"], answers: Sequence[np.ndarray]
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """How many wrong items are above the best answer of each question, and how many level with it, that one included.

    Writes over the scores.
    """
    counts = np.array([len(some) for some in answers])
    lines = np.repeat(np.arange(len(answers)), counts)
    right = np.searchsorted(items, np.concatenate(answers))
    best = np.maximum.reduceat(scores[lines, right], np.cumsum(counts) - counts)[:, None]
    # Other answers are neither above nor level: nothing compares with what is no number.
    scores[lines, right] = np.nan
    return np.count_nonzero(scores > best, axis=1), np.count_nonzero(scores == best, axis=1) + 1


def pooled(found: Sequence[Found]) -> Found:
    """All questions of several kinds."""
    return Found(*(np.concatenate([getattr(one, name) for one in found]) for name in ("above", "tied", "units")))
