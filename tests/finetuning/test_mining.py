"""Hard negatives, against a search that goes through all."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning import align
from mmrec.finetuning.align import mine
from mmrec.unit import unit

sizes = st.tuples(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 30), st.integers(1, 3))


def placed(random, count):
    items = np.sort(random.choice(100, count, replace=False))
    return items, unit(random.normal(size=(count, 4)).astype(np.float32))


@settings(deadline=None)
@given(sizes, st.floats(0, 1), st.sampled_from([1, 5, 1024]))
def test_the_nearest_strangers_below_the_margin_are_found_in_order(size, margin, at_once):
    seed, asks, things, count = size
    random = np.random.default_rng(seed)
    asking, among = placed(random, asks), placed(random, things)
    partners = random.uniform(-0.5, 1, asks).astype(np.float32)
    barred = random.random((100, 100)) < 0.3

    def strangers(some, others):
        return ~barred[some, others]

    before = align._AT_ONCE
    align._AT_ONCE = at_once
    try:
        found = mine(asking, partners, among, strangers, count, margin)
    finally:
        align._AT_ONCE = before
    assert found.shape == (asks, count)
    looked_at = min(things, 8 * count)
    for row in range(asks):
        scores = among[1] @ asking[1][row]
        order = np.argsort(-scores, kind="stable")[:looked_at]
        far = np.abs(scores - (partners[row] - margin)) > 1e-5  # what rounding decides either way
        taken = [
            int(among[0][at])
            for at in order
            if scores[at] <= partners[row] - margin and strangers(asking[0][row], among[0][at])
        ]
        if far[order].all() and (np.diff(np.sort(scores)) > 1e-5).all():
            assert found[row].tolist() == [*taken, *[-1] * count][:count]
        kept = found[row][found[row] >= 0]
        assert len(np.unique(kept)) == len(kept)
        assert (found[row][len(kept) :] == -1).all()
        near = np.searchsorted(among[0], kept)
        assert (scores[near] <= partners[row] - margin + 1e-5).all()
        assert strangers(np.full(len(kept), asking[0][row]), kept).all()
