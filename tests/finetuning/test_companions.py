"""Items that go together, against a set of pairs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning.coengage import entries, symmetric

COUNT = 8
places = st.lists(st.integers(0, COUNT - 1), max_size=12).map(lambda some: np.array(some, dtype=np.int64))


@settings(deadline=None)
@given(left=places, right=places, some=places, others=places)
def test_companions_are_those_of_some_pair(left, right, some, others):
    pairs = list(zip(left.tolist(), right.tolist(), strict=False))
    known = {pair for one, other in pairs for pair in ((one, other), (other, one))}
    found = entries(symmetric(left[: len(pairs)], right[: len(pairs)], COUNT), some, others)
    assert found.shape == (len(some), len(others))
    assert found.tolist() == [[(one, other) in known for other in others.tolist()] for one in some.tolist()]
