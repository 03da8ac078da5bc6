"""Small towers and pasts for tests."""

import numpy as np
import torch

from mmrec.users.model import History
from mmrec.users.networks import Sequences, fit_whitening
from mmrec.users.tower import Tower, TowerModel
from mmrec.users.tower_config import TowerConfig

CONTENT = 6
ROWS = np.array([3, 7, 8, 40, 2**40], dtype=np.int64)
NEW = np.array([0, 5, 41], dtype=np.int64)
START = 1_600_000_000_000_000


def contents(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, CONTENT)).astype(np.float32)


def small_tower(seed=0, rows=ROWS, moved=True, **sizes):
    """A tower with weights everywhere, as if it had been trained."""
    settings = {"dim": 8, "width": 8, "inner": 16, "window": 6, "dropout": 0.3, "kinds": ("view", "hide")}
    config = TowerConfig(**{**settings, **sizes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whitening = fit_whitening(contents(len(rows)), config.white) if config.content else None
        tower = Tower(config, torch.from_numpy(rows), whitening)
        if moved:
            with torch.no_grad():
                for weight in tower.parameters():
                    weight.add_(torch.randn_like(weight) * 0.3)
    return tower.eval()


def small_model(**sizes):
    return TowerModel(small_tower(**sizes))


def past(items, seed=0, kinds=None):
    """A past over rows, with events from a second to weeks apart."""
    random = np.random.default_rng(seed)
    gaps = (10 ** random.uniform(0, 6, len(items)) * 1e6).astype(np.int64)
    names = tuple(kinds or random.choice(["view", "hide", "like"], len(items)).tolist())
    weights = np.array([-8.0 if name == "hide" else 1.0 for name in names], dtype=np.float32)
    return History(np.asarray(items, dtype=np.int64), names, weights, START + np.cumsum(gaps))


def sequences(length, seed=0, people=1, dim=8):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(people, length, dim))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    times = START + np.cumsum((10 ** random.uniform(0, 6, (people, length)) * 1e6).astype(np.int64), axis=1)
    kinds = random.integers(0, 3, (people, length))
    return Sequences(
        torch.from_numpy(vectors.astype(np.float32)),
        torch.from_numpy(kinds),
        torch.from_numpy(kinds != 2),
        torch.from_numpy(times),
        torch.from_numpy(np.append(times[:, 1:], times[:, -1:] + 10**6, axis=1)),
        torch.zeros(kinds.shape, dtype=torch.int64),
    )
