"""Random numbers that belong to a place in a training, and not to what was drawn before."""

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["seed_torch"]


def seed_torch(words: Sequence[int]) -> None:
    """Seed torch anew by some words, such as seed, step and part."""
    state = np.random.SeedSequence(list(words)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)
