"""What was turned down lowers its like, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrec.ranking.repel import LIKE, losses


@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(0, 2))
def test_only_what_is_like_it_sinks_and_the_most_alike_the_most(seed, turned_down, strength) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    against = vectors[:turned_down]
    lost = losses(vectors, against, np.full(turned_down, strength, dtype=np.float32))
    likeness = (vectors @ against.T).max(axis=1, initial=-1)
    assert (lost[likeness <= LIKE] == 0).all()
    assert (np.diff(lost[np.argsort(likeness)]) >= -1e-5).all()
    np.testing.assert_allclose(lost[:turned_down], strength, atol=1e-5)
