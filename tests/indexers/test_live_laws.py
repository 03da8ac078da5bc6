"""A live index over segments of any recipe, through random changes, beside a plain dictionary and float64."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from indexers import BadVectorsError, IndexersError, IndexSpec, LiveIndex, build
from indexers.faiss_recipe import families

DIM = 24
METRICS = ("cosine", "ip", "l2")
EXAMPLES = {"Exact": {}} | {factory: search for family in families() for factory, search in family.examples.items()}
OLD, NEW = np.arange(280), np.arange(200, 480)

every_recipe = pytest.mark.parametrize("factory", EXAMPLES)


def drawn(rows, seed):
    """Vectors that depend on their row and a seed alone; whole numbers, so that many scores tie."""
    return np.stack([np.random.default_rng((seed, int(row))).integers(-3, 4, DIM) for row in rows]).astype(np.float32)


FIRST, SECOND = drawn(OLD, 1), drawn(NEW, 2)


@cache
def segments(factory, metric):
    spec = IndexSpec(factory, metric, EXAMPLES[factory])
    return build(spec, OLD, FIRST), build(spec, NEW, SECOND)


def opened(factory, metric):
    """A live index over two segments that overlap, what it should hold, and the caller's own copy of the segments'."""
    model = dict(zip(OLD.tolist(), FIRST, strict=True)) | dict(zip(NEW.tolist(), SECOND, strict=True))
    store = dict(model)
    live = LiveIndex(DIM, metric, segments(factory, metric), stored=lambda rows: np.stack([store[row] for row in rows]))
    return live, model


ROWS = st.lists(st.integers(0, 520), max_size=40, unique=True)
ALLOWED = st.none() | st.sets(st.integers(0, 520), max_size=300)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ROWS, st.integers(3, 9)),
        st.tuples(st.just("remove"), ROWS, st.none()),
        st.tuples(st.just("search"), ALLOWED, st.integers(1, 60)),
        st.tuples(st.just("range"), ALLOWED, st.floats(0, 1)),
        st.tuples(st.just("reconstruct"), ROWS, st.none()),
    ),
    min_size=1,
    max_size=8,
)


@every_recipe
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=STEPS, metric=st.sampled_from(METRICS), seed=st.integers(0, 2**32 - 1))
def test_any_sequence_of_changes_and_questions(check, factory, steps, metric, seed):
    live, model = opened(factory, metric)
    queries = np.random.default_rng(seed).integers(-3, 4, (3, DIM)).astype(np.float32)
    for kind, rows, more in steps:
        wanted = None if rows is None else np.array(sorted(rows), dtype=np.int64)
        if kind == "add" and len(wanted):
            live.add(wanted, drawn(wanted, more))
            model |= dict(zip(wanted.tolist(), drawn(wanted, more), strict=True))
        elif kind == "remove":
            live.remove(wanted)
            model = {row: vector for row, vector in model.items() if row not in rows}
        elif kind == "search":
            tolerance = 0.05 if "SQ" in factory else 2e-5
            check(
                live.search(queries, more, allowed=wanted),
                queries,
                more,
                held(model, metric),
                allowed=wanted,
                tolerance=tolerance,
            )
        elif kind == "range":
            assert_range(live, queries, held(model, metric), wanted, more)
        elif kind == "reconstruct":
            assert_given_back(live, model, wanted, metric)
        assert sorted(live.rows) == sorted(model)


def held(model, metric):
    vectors = np.array(list(model.values()), dtype=np.float32).reshape(-1, DIM)
    return SimpleNamespace(rows=np.array(list(model), dtype=np.int64), vectors=vectors, metric=metric)


def assert_range(live, queries, data, allowed, share):
    """Ask for the scores above a mark drawn between the lowest and the highest."""
    truth = oracle(queries, data)
    kept = np.ones(len(data.rows), dtype=bool) if allowed is None else np.isin(data.rows, allowed)
    inside = truth[:, kept]
    mark = float(np.quantile(inside, share)) if inside.size else 0.0
    found = live.search_range(queries, mark, allowed=allowed)
    for query, scores in enumerate(truth):
        rows, given_scores = found.of(query)
        assert set(data.rows[kept & (scores >= mark + 1e-6)]) <= set(rows)
        assert set(rows) <= set(data.rows[kept & (scores >= mark - 1e-6)])
        assert len(set(rows)) == len(rows)
        order = np.argsort(data.rows)
        np.testing.assert_allclose(given_scores, scores[order[np.searchsorted(data.rows[order], rows)]], atol=1e-5)
        assert (np.diff(given_scores) <= 0).all()


def oracle(queries, data):
    q, x = queries.astype(np.float64), data.vectors.astype(np.float64)
    if data.metric == "l2":
        return -np.linalg.norm(q[:, None] - x[None], axis=2)
    if data.metric == "cosine":
        q, x = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300) for v in (q, x))
    return q @ x.T


def assert_given_back(live, model, rows, metric):
    there = np.array([row for row in rows if row in model], dtype=np.int64)
    vectors = np.array([model[row] for row in there.tolist()], dtype=np.float64).reshape(-1, DIM)
    if metric == "cosine":
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(live.reconstruct(there), vectors, atol=1e-6)
    if len(there) < len(rows):
        with pytest.raises(BadVectorsError, match="not held"):
            live.reconstruct(rows)


@every_recipe
def test_without_the_callers_vectors_a_range_is_that_of_the_segments_own(factory):
    """Also where FAISS has no range search, as with fast scan; codes count as what they decode to."""
    index = segments(factory, "ip")[0]
    live = LiveIndex(DIM, "ip", [index])
    own = SimpleNamespace(rows=OLD, vectors=index.vectors_of(OLD), metric="ip")
    np.testing.assert_array_equal(live.reconstruct(OLD), own.vectors)
    assert np.abs(own.vectors - FIRST).max() <= (0.05 if "SQ" in factory else 0)
    for share in (0, 0.5, 0.99, 1):
        assert_range(live, FIRST[:5], own, None, share)


def test_a_range_in_many_small_pieces(monkeypatch):
    import indexers.live

    whole = opened("Flat", "l2")[0].search_range(FIRST[:20], -8.0)
    monkeypatch.setattr(indexers.live, "PAIRS_AT_ONCE", 100)
    monkeypatch.setattr(indexers.live, "chunk_rows", lambda dim: 7)
    pieces = opened("Flat", "l2")[0].search_range(FIRST[:20], -8.0)
    np.testing.assert_array_equal(whole.rows, pieces.rows)
    np.testing.assert_array_equal(whole.scores, pieces.scores)
    np.testing.assert_array_equal(whole.starts, pieces.starts)


def test_the_mark_itself_counts_and_too_many_are_refused():
    live = LiveIndex(DIM, "ip")
    live.add(np.arange(10), np.eye(10, DIM, dtype=np.float32))
    query = np.arange(DIM, dtype=np.float32)[None]
    assert live.search_range(query, 7.0).rows.tolist() == [9, 8, 7]
    assert live.search_range(query, np.nextafter(7.0, 8.0)).rows.tolist() == [9, 8]
    assert live.search_range(query, np.inf).rows.tolist() == []
    assert live.search_range(query[:0], 0.0).starts.tolist() == [0]
    with pytest.raises(IndexersError, match="more than 2 rows"):
        live.search_range(query, 7.0, limit=2)
    with pytest.raises(BadVectorsError, match="NaN"):
        live.search_range(query, np.nan)
