"""Ranking metrics from rank counts: hit rate, recall, NDCG, MRR, with ties averaged."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

from mmrec.errors import UsageError


def _discounts(k: int) -> Float64[np.ndarray, " k"]:
    return 1 / np.log2(np.arange(2, k + 2))


def _reciprocals(k: int) -> Float64[np.ndarray, " k"]:
    return 1 / np.arange(1, k + 1)


_GAINS: Final[Mapping[str, Callable[[int], Float64[np.ndarray, " k"]]]] = {
    "hr": np.ones,
    "recall": np.ones,
    "ndcg": _discounts,
    "mrr": _reciprocals,
    "map": _reciprocals,
}
METRICS: Final = tuple(_GAINS)
"""Names of the metrics. With one target a question, recall is the hit rate and MAP is MRR."""


def accuracy(
    metric: str, k: int, above: Int64[np.ndarray, " q"], tied: Int64[np.ndarray, " q"]
) -> Float64[np.ndarray, " q"]:
    """A metric of each question that has one target, averaged over all orders of what is tied with it.

    Args:
        metric: ``hr``, ``recall``, ``ndcg``, ``mrr`` or ``map``.
        k: Cut-off.
        above: Number of candidates above the target.
        tied: Number of candidates level with it, itself included.

    Raises:
        UsageError: There is no such metric or cut-off.

    """
    total = np.concatenate([[0.0], np.cumsum(_gains(metric, k))])
    return (total[np.minimum(above + tied, k)] - total[np.minimum(above, k)]) / tied


def mean_rank(above: Int64[np.ndarray, " q"], tied: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, " q"]:
    """Rank of each target from 1, what is tied at the mean of the ranks that it shares."""
    return above + (tied + 1) / 2


def of_several(metric: str, k: int, ranks: Float64[np.ndarray, " r"]) -> float:
    """A metric of one question that has several targets, from their ranks.

    NDCG is that of Järvelin and Kekäläinen (2002) with equal gains; MAP divides by the number of targets.
    Raises UsageError where there is no such metric or cut-off, or no target.
    """
    gains = _gains(metric, k)
    if not len(ranks):
        raise UsageError("A question without a target has no metric.")
    found = np.sort(ranks[ranks <= k])
    match metric:
        case "hr":
            return float(len(found) > 0)
        case "recall":
            return len(found) / len(ranks)
        case "mrr":
            return float(1 / found[0]) if len(found) else 0.0
        case "map":
            return float((np.arange(1, len(found) + 1) / found).sum() / len(ranks))
    return float((1 / np.log2(found + 1)).sum() / gains[: len(ranks)].sum())


def at_once(
    metric: str,
    k: int,
    above: Int64[np.ndarray, " q"],
    tied: Int64[np.ndarray, " q"],
    people: Int64[np.ndarray, " q"],
) -> Float64[np.ndarray, " people"]:
    """A metric of each person's one list, of which all their targets are; people ascending, ties at their mean rank."""
    order = np.argsort(people, kind="stable")
    begins = np.flatnonzero(np.diff(people[order])) + 1
    return np.array([of_several(metric, k, some) for some in np.split(mean_rank(above, tied)[order], begins)])


def _gains(metric: str, k: int) -> Float64[np.ndarray, " k"]:
    if metric not in _GAINS or k < 1:
        raise UsageError(f"There is no metric {metric!r} at {k}: choose one of {', '.join(METRICS)}, at 1 or more.")
    return _GAINS[metric](k)
