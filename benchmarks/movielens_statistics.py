"""Metrics of ranks, and intervals over people."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "hits", "interval", "ndcgs"]

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over events and its 95% interval over people."""

    mean: float
    low: float
    high: float


def ndcgs(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """NDCG@k of each target."""
    return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)


def hits(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """HR@k of each target."""
    return (ranks <= k).astype(float)


def interval(values: np.ndarray, people: np.ndarray, seed: int = 0) -> Interval:
    """Mean of values of events, with a percentile bootstrap that draws people and takes all their events.

    For a paired difference, give the differences.
    """
    _, places = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(places, values), np.bincount(places)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
