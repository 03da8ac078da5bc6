"""Rank the targets of evaluation cases among all candidates, and keep the best candidates as lists."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.metrics import rank_counts
from mmrec.evaluation.scorer import Scorer

_BUDGET: Final = 64 * 2**20
# Scores, their negation and the comparisons, in bytes for one item of one case.
_BYTES: Final = 24


@dataclass(frozen=True, slots=True, eq=False)
class RankedTargets:
    """How many candidates have a higher score than each case's target, and the same one, itself included, by one model.

    `lists` has the places of the best candidates, best first; -1 where there were fewer.
    """

    name: str
    above: Int64[np.ndarray, " q"]
    tied: Int64[np.ndarray, " q"]
    lists: Int64[np.ndarray, "q depth"]


def rank_targets(
    scorer: Scorer,
    cases: EvaluationCases,
    candidates: Candidates,
    *,
    allow_seen: bool = False,
    among: Bool[np.ndarray, " items"] | None = None,
    depth: int = 20,
    budget: int = _BUDGET,
) -> RankedTargets:
    """Rank all candidates for each case, without those that the user has seen unless `allow_seen`.

    Only the candidates of `among` take part, the targets among them; all if None. Lists of `depth` are kept, and scores
    and what is made of them take `budget` bytes at a time. Raises UsageError where a target cannot be ranked (see
    `EvaluationCases.answerable`), or a score is no number.
    """
    columns = candidates.places(cases.live.items[cases.targets])
    if (columns < 0).any() or (not allow_seen and cases.repeats.any()):
        raise UsageError("Some targets are no candidates: give the cases of `EvaluationCases.answerable` alone.")
    size = max(1, budget // (_BYTES * max(1, len(candidates))))
    counts = [(np.empty(0, dtype=np.int64),) * 2]
    lists = [np.empty((0, min(depth, len(candidates))), dtype=np.int64)]
    for start in range(0, len(cases), size):
        some = range(start, min(start + size, len(cases)))
        scores = _scores(scorer, cases.take(np.arange(some.start, some.stop)), len(candidates))
        if among is not None:
            scores[:, ~among] = np.nan
        if not allow_seen:
            for line, place in enumerate(some):
                seen = candidates.places(cases.seen(place))
                scores[line, seen[seen >= 0]] = np.nan
        own = scores[np.arange(len(some)), columns[some.start : some.stop]][:, None]
        counts.append(rank_counts(scores, own))
        lists.append(top_items(scores, depth))
    above, tied = (np.concatenate(some) for some in zip(*counts, strict=True))
    return RankedTargets(scorer.name, above, tied, np.concatenate(lists))


def top_items(scores: Float32[np.ndarray, "q items"], depth: int) -> Int64[np.ndarray, "q depth"]:
    """Places of the highest scores, best first, -1 where fewer are numbers.

    Those of one score come in an order that is drawn once for all, so that no place in the catalog is favoured.
    """
    items = scores.shape[1]
    depth = min(depth, items)
    if not depth:
        return np.empty((len(scores), 0), dtype=np.int64)
    drawn = np.random.default_rng(0).permutation(items)
    lowered = -scores[:, drawn]  # NaN is sorted to the end
    chosen = np.argpartition(lowered, depth - 1, axis=1)[:, :depth]
    values = np.take_along_axis(lowered, chosen, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    places = drawn[np.take_along_axis(chosen, order, axis=1)]
    return np.where(np.isnan(np.take_along_axis(values, order, axis=1)), -1, places).astype(np.int64)


def _scores(scorer: Scorer, cases: EvaluationCases, items: int) -> Float32[np.ndarray, "q items"]:
    """A copy of the scores; equal cases are scored once."""
    places, lines = np.unique(cases.first_duplicate(), return_inverse=True)
    scores = scorer.scores(cases.histories(places), cases.now[places])
    if scores.shape != (len(places), items):
        raise UsageError(
            f"{scorer.name} gave scores of shape {scores.shape} where {(len(places), items)} was expected: one a "
            "candidate."
        )
    if np.isnan(scores).any():
        raise UsageError(f"{scorer.name} gave scores that are no numbers (NaN): they cannot be ranked.")
    return scores[lines]
