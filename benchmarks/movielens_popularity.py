"""Popularity as a ranking: of all times, of the two weeks before a moment, and by chance."""

import numpy as np

from mmrec.events.histories import Histories
from mmrec.events.splits import Split

__all__ = ["popularity_ranks"]

DAY = 86_400_000_000
RECENT = 14 * DAY


def popularity_ranks(split: Split, rows: np.ndarray, kind: str) -> np.ndarray:
    """Mid-rank of each target among the films that its person had not met.

    Args:
        split: What is known, and what is asked.
        rows: The catalog, ascending.
        kind: ``all``; ``recent``, of the 14 days before each target, or before the cutoff of a split by time; ``live``,
            of the 14 days before each target with all that anyone had done by then; ``random``.

    """
    known = split.live if kind == "live" else split.train
    order = np.argsort(known.times, kind="stable")
    times, items = known.times[order], np.searchsorted(rows, known.items[order])
    everything = np.bincount(np.searchsorted(rows, split.train.items), minlength=len(rows)).astype(float)
    found, random = np.empty(len(split.targets)), np.random.default_rng(0)
    for place, target in enumerate(split.targets):
        moment = int(split.live.times[target])
        if kind == "recent" and split.cutoff is not None:
            moment = split.cutoff
        scores = everything
        if kind in {"recent", "live"}:
            first, last = np.searchsorted(times, [moment - RECENT, moment])
            # All-time popularity tells apart what is alike of late.
            scores = np.bincount(items[first:last], minlength=len(rows)) + everything / (1 + everything.sum())
        if kind == "random":
            scores = random.random(len(rows))
        found[place] = _rank(scores, split.live, split.history(int(target)), int(target), rows)
    return found


def _rank(scores: np.ndarray, live: Histories, seen: slice, target: int, rows: np.ndarray) -> float:
    wanted = int(np.searchsorted(rows, live.items[target]))
    competing = np.ones(len(rows), dtype=bool)
    competing[np.searchsorted(rows, live.items[seen])] = False
    competing[wanted] = False
    above = (scores[competing] > scores[wanted]).sum()
    return float(1 + above + (scores[competing] == scores[wanted]).sum() / 2)
