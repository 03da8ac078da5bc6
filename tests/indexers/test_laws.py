"""Laws that hold for any vectors, tried on many."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from indexers import IndexSpec, LiveIndex, build

DIM = 4
METRICS = st.sampled_from(["cosine", "ip", "l2"])
FACTORIES = st.sampled_from(["Exact", "Flat", "HNSW32,Flat"])
VALUES = st.floats(-8, 8, width=16).map(lambda value: round(value, 2))
QUERIES = npst.arrays(np.float32, (3, DIM), elements=VALUES)

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def catalogs(draw, smallest=1):
    count = draw(st.integers(smallest, 25))
    vectors = draw(npst.arrays(np.float32, (count, DIM), elements=VALUES))
    rows = draw(st.lists(st.integers(0, 2**62), min_size=count, max_size=count, unique=True))
    return np.array(rows, dtype=np.int64), vectors


def equal(one, other):
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


@quick
@given(catalogs(), QUERIES, METRICS, FACTORIES, st.integers(1, 30))
def test_any_index_agrees_with_the_oracle(check, catalog, queries, metric, factory, k):
    rows, vectors = catalog
    found = build(IndexSpec(factory, metric), rows, vectors).search(queries, k)
    check(found, queries, k, SimpleNamespace(rows=rows, vectors=vectors, metric=metric), tolerance=1e-5)


@quick
@given(catalogs(), QUERIES, FACTORIES, st.integers(-90, 90))
def test_cosine_ignores_scale(catalog, queries, factory, exponent):
    # Powers of two scale float32 without rounding, far beyond where its squares overflow or vanish.
    rows, vectors = catalog
    spec = IndexSpec(factory, "cosine")
    plain = build(spec, rows, vectors).search(queries, 5)
    scale = np.float32(2.0**exponent)
    equal(plain, build(spec, rows, vectors * scale).search(queries, 5))
    equal(plain, build(spec, rows, vectors).search(queries * scale, 5))


@quick
@given(catalogs(), QUERIES, METRICS, FACTORIES, st.randoms())
def test_the_order_of_building_changes_nothing(catalog, queries, metric, factory, random):
    rows, vectors = catalog
    order = list(range(len(rows)))
    random.shuffle(order)
    one = build(IndexSpec(factory, metric), rows, vectors)
    other = build(IndexSpec(factory, metric), rows[order], vectors[order])
    equal(one.search(queries, 10), other.search(queries, 10))
    equal(one.search(queries, 10, allowed=rows[::2]), other.search(queries, 10, allowed=rows[::2][::-1]))


@quick
@given(catalogs(2), QUERIES, METRICS, FACTORIES)
def test_adding_then_removing_restores(catalog, queries, metric, factory):
    rows, vectors = catalog
    half = len(rows) // 2
    live = LiveIndex(DIM, metric, [build(IndexSpec(factory, metric), rows[:half], vectors[:half])])
    before, held = live.search(queries, 10), sorted(live.rows)
    live.add(rows[half:], vectors[half:])
    live.remove(rows[half:])
    equal(before, live.search(queries, 10))
    assert sorted(live.rows) == held


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove"]),
        st.lists(st.integers(0, 30), max_size=8, unique=True),
        st.integers(0, 2**32 - 1),
    ),
    max_size=10,
)


@pytest.mark.parametrize("factory", ["Exact", "Flat", "HNSW32,Flat"])
@quick
@given(
    changes=CHANGES,
    queries=QUERIES,
    metric=METRICS,
    k=st.integers(1, 40),
    allowed=st.none() | st.sets(st.integers(0, 40)),
)
def test_a_live_index_equals_a_fresh_one_over_what_is_left(check, factory, changes, queries, metric, k, allowed):
    rng = np.random.default_rng(0)
    first = {row: rng.standard_normal(DIM).astype(np.float32) for row in range(25)}
    segments = [
        build(
            IndexSpec(factory, metric),
            np.arange(start, start + 10),
            np.stack([first[row] for row in range(start, start + 10)]),
        )
        for start in (0, 15)
    ]
    model = {row: vector for row, vector in first.items() if not 10 <= row < 15}
    live = LiveIndex(DIM, metric, segments)
    for kind, rows, seed in changes:
        numbers = np.array(rows, dtype=np.int64)
        if kind == "add":
            vectors = np.random.default_rng(seed).standard_normal((len(rows), DIM)).astype(np.float32)
            live.add(numbers, vectors)
            model |= dict(zip(rows, vectors, strict=True))
        else:
            live.remove(numbers)
            model = {row: vector for row, vector in model.items() if row not in rows}
    assert len(live) == len(model)
    assert sorted(live.rows) == sorted(model)
    data = SimpleNamespace(
        rows=np.array(list(model), dtype=np.int64),
        vectors=np.array(list(model.values()), dtype=np.float32).reshape(-1, DIM),
        metric=metric,
    )
    wanted = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
    check(live.search(queries, k, allowed=wanted), queries, k, data, allowed=wanted)
