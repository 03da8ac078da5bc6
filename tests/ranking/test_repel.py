"""What was turned down lowers its like, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrec.ranking.diversify import LIKE, SPARED, losses


@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(0, 2))
def test_only_what_is_like_it_sinks_and_the_most_alike_the_most(seed, turned_down, strength) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors[:turned_down].T
    strengths = np.full(turned_down, strength, dtype=np.float32)
    nearest = likeness.max(axis=1, initial=-1)
    lost = losses(likeness, strengths, np.zeros(30, dtype=np.float32))
    assert (lost[nearest <= LIKE] == 0).all()
    assert (np.diff(lost[np.argsort(nearest)]) >= -1e-5).all()
    scores = rng.random(30).astype(np.float32)
    spared = losses(likeness, strengths, scores)
    assert (spared <= lost + 1e-6).all()
    assert (spared[nearest <= SPARED * scores] == 0).all()
