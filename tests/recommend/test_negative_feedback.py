"""What was turned down lowers its like, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrec.recommend.diversify import MIN_COSINE, PROTECTED_SHARE, feedback_penalties


@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(0, 2))
def test_only_what_is_like_it_sinks_and_the_most_alike_the_most(seed, disliked, strength) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors[:disliked].T
    strengths = np.full(disliked, strength, dtype=np.float32)
    nearest = likeness.max(axis=1, initial=-1)
    lost = feedback_penalties(likeness, strengths, np.zeros(30, dtype=np.float32))
    assert (lost[nearest <= MIN_COSINE] == 0).all()
    assert (np.diff(lost[np.argsort(nearest)]) >= -1e-5).all()
    scores = rng.random(30).astype(np.float32)
    spared = feedback_penalties(likeness, strengths, scores)
    assert (spared <= lost + 1e-6).all()
    assert (spared[nearest <= PROTECTED_SHARE * scores] == 0).all()
