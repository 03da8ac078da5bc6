"""The fast choice against its definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.recommend import mmr


def by_definition(relevance, vectors, k, diversity, window):
    wide = vectors.astype(np.float64)
    chosen: list[int] = []
    for _ in range(min(k, len(relevance))):
        kept = chosen if window is None else chosen[-window:]
        gains = {
            place: (1 - diversity) * float(relevance[place])
            - diversity * max((float(wide[place] @ wide[one]) for one in kept), default=0.0)
            for place in range(len(relevance))
            if place not in chosen
        }
        chosen.append(max(gains, key=lambda place: gains[place]))
    return chosen


@given(st.integers(0, 10_000), st.integers(0, 30), st.floats(0, 1), st.sampled_from([None, 1, 2, 5]))
@settings(max_examples=80, deadline=None)
def test_it_chooses_as_defined(seed, k, diversity, window) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(20, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = rng.random(20).astype(np.float32)
    assert mmr(relevance, vectors, k, diversity, window).tolist() == by_definition(
        relevance, vectors, k, diversity, window
    )
