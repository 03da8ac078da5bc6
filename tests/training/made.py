"""Histories for tests of training."""

import numpy as np
import pyarrow as pa

from mmrec.events.histories import Histories
from mmrec.training.config import TrainingConfig
from mmrec.users.tower_config import TowerConfig

START = 1_600_000_000_000_000
SECOND = 1_000_000
# Not from 0, not without gaps, and one beyond 32 bits, as a store's row numbers are.
ROWS = np.array([5, 6, 9, 12, 20, 21, 33, 2**40], dtype=np.int64)


def histories_of(items, kinds=None, kind_names=("view",)):
    """Histories of lists of row numbers, an event a second."""
    lengths = [len(one) for one in items]
    flat = np.concatenate([np.asarray(one, dtype=np.int64) for one in items])
    return Histories(
        pa.array([f"p{place:04}" for place in range(len(items))], pa.string()),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        flat,
        np.zeros(len(flat), dtype=np.int16) if kinds is None else np.concatenate(kinds).astype(np.int16),
        np.concatenate([START + np.arange(length) * SECOND for length in lengths]).astype(np.int64),
        np.full(len(flat), np.nan, dtype=np.float32),
        kind_names,
    )


def cyclic(people=24, length=7):
    """Everybody goes through the items in the one order, each from a place of their own."""
    return histories_of([[ROWS[(start + step) % len(ROWS)] for step in range(length)] for start in range(people)])


def random_histories(people=12, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 12, people)
    return histories_of([random.choice(ROWS[:7], length) for length in lengths])


def contents(count=8, size=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def small_config(**settings):
    tower = {"dim": 16, "width": 16, "inner": 32, "window": 6, "dropout": 0.2, **settings.pop("tower", {})}
    plain = {"device": "cpu", "batch": 8, "warmup": 5, "epochs": 4, "rate": 1e-2, "evaluate_every": 1, "patience": 100}
    return TrainingConfig(tower=TowerConfig(**tower), **{**plain, **settings})
