"""Ranking metrics from rank counts: hit rate, recall, NDCG, MRR, with ties averaged."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64

from mmrec.errors import UsageError


def rank_counts(scores: Any, own: Any) -> tuple[Any, Any]:  # noqa: ANN401 - NumPy arrays and torch tensors alike
    """Count in each row (n, items) the scores above that of the target (n, 1), and those equal to it, itself included.

    What is NaN does not count. Raises UsageError where a target's score is NaN.
    """
    if (own != own).any():  # noqa: PLR0124 - NaN alone differs from itself, in both libraries
        raise UsageError("A target is left out of its own ranking: its score is no number.")
    return (scores > own).sum(1), (scores == own).sum(1)


def mean_rank(above: Int64[np.ndarray, " q"], tied: Int64[np.ndarray, " q"]) -> Float64[np.ndarray, " q"]:
    """Rank of each target from 1, ties at the mean of the ranks that they share."""
    return above + (tied + 1) / 2


def discounted_gain(ranks: np.ndarray, k: int) -> Float64[np.ndarray, " r"]:
    """Gain of a target at each rank, ``1 / log2(1 + rank)`` down to rank k: the NDCG@k of a single target."""
    return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


_GAINS: Final[Mapping[str, Callable[[int], Float64[np.ndarray, " k"]]]] = {
    "hr": np.ones,
    "recall": np.ones,
    "ndcg": lambda k: discounted_gain(np.arange(1, k + 1), k),
    "mrr": lambda k: 1 / np.arange(1, k + 1),
    "map": lambda k: 1 / np.arange(1, k + 1),
}
METRICS: Final = tuple(_GAINS)
"""Names of the metrics. With one target a case, recall is the hit rate and MAP is MRR."""


def single_target_metric(
    metric: str, k: int, above: Int64[np.ndarray, " q"], tied: Int64[np.ndarray, " q"]
) -> Float64[np.ndarray, " q"]:
    """A metric of each case that has one target, averaged over all orders of what is tied with it.

    The metric is ``hr``, ``recall``, ``ndcg``, ``mrr`` or ``map``, with cut-off k, of rank counts as `rank_counts`
    gives them. Raises UsageError where there is no such metric or cut-off.
    """
    total = np.concatenate([[0.0], np.cumsum(_gains(metric, k))])
    return (total[np.minimum(above + tied, k)] - total[np.minimum(above, k)]) / tied


def multi_target_metric(metric: str, k: int, ranks: Float64[np.ndarray, " r"]) -> float:
    """A metric of one case that has several targets, from their ranks.

    NDCG is that of Järvelin and Kekäläinen (2002) with equal gains; MAP divides by the number of targets.
    Raises UsageError where there is no such metric or cut-off, or no target.
    """
    gains = _gains(metric, k)
    if not len(ranks):
        raise UsageError("A case without a target has no metric.")
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
    return float(discounted_gain(found, k).sum() / gains[: len(ranks)].sum())


def per_user_metric(
    metric: str,
    k: int,
    above: Int64[np.ndarray, " q"],
    tied: Int64[np.ndarray, " q"],
    users: Int64[np.ndarray, " q"],
) -> Float64[np.ndarray, " users"]:
    """A metric of each user's one list, of which all their targets are; users ascending, ties at their mean rank."""
    order = np.argsort(users, kind="stable")
    begins = np.flatnonzero(np.diff(users[order])) + 1
    return np.array([multi_target_metric(metric, k, some) for some in np.split(mean_rank(above, tied)[order], begins)])


def _gains(metric: str, k: int) -> Float64[np.ndarray, " k"]:
    if metric not in _GAINS or k < 1:
        raise UsageError(f"There is no metric {metric!r} at {k}: choose one of {', '.join(METRICS)}, at 1 or more.")
    return _GAINS[metric](k)
