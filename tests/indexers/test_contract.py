"""What every index must do, compared with exact search in float64. An implementation joins by one line below."""

from types import SimpleNamespace

import numpy as np
import pytest

from indexers import BadVectorsError, ExactIndex, FaissIndex, Index, IndexSpec, LiveIndex, build, load
from indexers.faiss_recipe import families

METRICS = ("cosine", "ip", "l2")
EXACT, CODED = 2e-5, 0.05


def live(metric, rows, vectors):
    """Half in two segments, half in the tail; with rows that were replaced, and rows that were removed."""
    third = len(rows) // 3
    stale = np.ones((third, vectors.shape[1]), dtype=np.float32)
    index = LiveIndex(
        vectors.shape[1],
        metric,
        [
            build(IndexSpec("Flat", metric), rows[: 2 * third], np.concatenate([vectors[:third], stale])),
            build(IndexSpec("HNSW32,Flat", metric), rows[third : 2 * third], vectors[third : 2 * third]),
        ],
    )
    index.add(rows[2 * third :], vectors[2 * third :])
    extra = np.arange(10_000_000, 10_000_010)
    index.add(extra, np.ones((10, vectors.shape[1]), dtype=np.float32))
    index.remove(extra)
    return index


def recipe(factory, search):
    """A FAISS recipe; one that keeps scalar codes answers by what it decodes. What is built is kept."""
    kept = {}

    def make(metric, rows, vectors):
        layout = (rows.dtype.str, vectors.dtype.str, vectors.shape, vectors.strides)
        key = (metric, rows.tobytes(), vectors.tobytes(), layout)
        if key not in kept:
            kept[key] = build(IndexSpec(factory, metric, search), rows, vectors)
        return kept[key]

    return pytest.param(make, CODED if "SQ" in factory else EXACT, id=factory)


IMPLEMENTATIONS = [
    pytest.param(lambda m, r, v: build(IndexSpec("Exact", m), r, v), EXACT, id="exact"),
    *(recipe(factory, search) for family in families() for factory, search in family.examples.items()),
    pytest.param(live, EXACT, id="live"),
    pytest.param(
        lambda m, r, v: ExactIndex.build(IndexSpec("Exact", m), r, v, "cuda"),
        EXACT,
        id="exact-gpu",
        marks=pytest.mark.gpu,
    ),
    pytest.param(
        lambda m, r, v: FaissIndex.build(IndexSpec("Flat", m), r, v).on_gpu(),
        EXACT,
        id="flat-gpu",
        marks=pytest.mark.gpu,
    ),
]

every_index = pytest.mark.parametrize(("make", "tolerance"), IMPLEMENTATIONS)
every_metric = pytest.mark.parametrize("metric", METRICS)


def data(metric, n=300, dim=24, seed=0):
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((n, dim)) * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    return SimpleNamespace(metric=metric, rows=rng.choice(1_000_000, n, replace=False), vectors=vectors)


def widened(vectors):
    """Short vectors, with zeros up to the 24 dimensions that every recipe can be made for."""
    return np.pad(np.array(vectors, dtype=np.float32), ((0, 0), (0, 24 - len(vectors[0]))))


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).standard_normal((40, 24)).astype(np.float32)


@every_index
@every_metric
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_rows_and_scores_are_those_of_the_oracle(make, tolerance, metric, queries, count, k, check):
    given = data(metric)
    index = make(metric, given.rows, given.vectors)
    assert len(index) == 300
    assert sorted(index.rows) == sorted(given.rows)
    check(index.search(queries[:count], k), queries[:count], k, given, tolerance=tolerance)


@every_index
@every_metric
@pytest.mark.parametrize("share", [0, 1, 3, 30, 150, 300])
def test_only_allowed_rows_are_found(make, tolerance, metric, queries, share, check):
    given = data(metric)
    index = make(metric, given.rows, given.vectors)
    allowed = np.random.default_rng(2).permutation(given.rows)[:share]
    noisy = np.concatenate([allowed, allowed[:2], [-7, 5_000_000]])
    found = index.search(queries, 10, allowed=noisy)
    check(found, queries, 10, given, allowed=allowed, tolerance=tolerance)


@every_index
def test_the_worked_example(make, tolerance):
    user, item = widened([[1, 0, 1]]), widened([[0, 1, 0]])
    for metric, score in (("cosine", 0.0), ("ip", 0.0), ("l2", -np.sqrt(3.0))):
        found = make(metric, np.array([7]), item).search(user, 1)
        assert found.rows.tolist() == [[7]]
        np.testing.assert_allclose(found.scores, [[score]], atol=1e-6)


@every_index
@every_metric
def test_an_empty_index_finds_nothing(make, tolerance, metric, queries):
    index = make(metric, np.empty(0, dtype=np.int64), np.empty((0, 24), dtype=np.float32))
    assert len(index) == 0
    assert index.rows.size == 0
    for found in (index.search(queries, 3), index.search(queries, 3, allowed=np.array([1]))):
        assert (found.rows == -1).all()
        assert np.isneginf(found.scores).all()


@every_index
def test_no_queries_give_no_answers(make, tolerance):
    given = data("ip")
    assert make("ip", given.rows, given.vectors).search(np.empty((0, 24), dtype=np.float32), 5).rows.shape == (0, 5)


@every_index
@every_metric
def test_a_zero_vector_has_cosine_zero(make, tolerance, metric, queries, check):
    given = data(metric)
    given.vectors[::2] = 0
    index = make(metric, given.rows, given.vectors)
    check(index.search(queries, 10), queries, 10, given, tolerance=tolerance)
    zero = np.zeros((1, 24), dtype=np.float32)
    check(index.search(zero, 300), zero, 300, given, tolerance=tolerance)


@every_index
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@every_metric
def test_any_real_dtype_and_layout_is_right(make, tolerance, metric, queries, dtype, check):
    given = data(metric)
    wide = np.zeros((600, 48), dtype=dtype, order="F")
    wide[::2, ::2] = given.vectors
    index = make(metric, given.rows.astype(np.uint64), wide[::2, ::2])
    given.vectors = wide[::2, ::2]
    asked = np.asfortranarray(queries.astype(dtype))
    check(index.search(asked, 10), asked, 10, given, tolerance=tolerance)


@every_index
@every_metric
@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (np.zeros((1, 23), dtype=np.float32), "shape"),
        (np.zeros(24, dtype=np.float32), "shape"),
        (np.full((1, 24), np.nan, dtype=np.float32), "NaN"),
        (np.full((1, 24), np.inf, dtype=np.float32), "NaN or infinity"),
        (np.full((1, 24), 1e300), "NaN or infinity"),
        (np.zeros((1, 24), dtype=np.complex64), "dtype"),
        (np.zeros((1, 24), dtype=np.bool_), "dtype"),
    ],
)
def test_bad_queries_are_refused(make, tolerance, metric, wrong, word):
    given = data(metric)
    index = make(metric, given.rows, given.vectors)
    with pytest.raises(BadVectorsError, match=word):
        index.search(wrong, 3)


@every_index
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(make, tolerance, k, queries):
    given = data("ip")
    with pytest.raises(BadVectorsError, match="at least 1"):
        make("ip", given.rows, given.vectors).search(queries, k)


@every_index
def test_bad_vectors_and_rows_are_refused(make, tolerance):
    given = data("ip", n=30)
    spoiled = given.vectors.copy()
    spoiled[29, 3] = np.nan
    twice = np.append(given.rows[1:], given.rows[-1])
    for rows, vectors, word in (
        (given.rows, spoiled, "NaN"),
        (given.rows, np.full_like(spoiled, 1e20), "at most"),
        (twice, given.vectors, "twice"),
        (np.append(given.rows[1:], -1), given.vectors, "-1"),
        (np.append(given.rows, 5), given.vectors, "row numbers"),
        (given.rows.astype(np.float64), given.vectors, "row numbers"),
    ):
        with pytest.raises(BadVectorsError, match=word):
            make("ip", rows, vectors)


@every_index
@every_metric
def test_equal_scores_are_ordered_by_row(make, tolerance, metric):
    vectors = np.tile(widened([[3, 4]]), (90, 1))
    vectors[80:] = widened([[0, 0, 1]])
    index = make(metric, np.arange(90)[::-1].copy(), vectors)
    for count in (1, 25):
        found = index.search(np.tile(vectors[:1], (count, 1)), 90)
        assert found.rows.tolist() == [[*range(10, 90), *range(10)]] * count
        if tolerance == EXACT and not isinstance(index, FaissIndex | LiveIndex):
            assert index.search(vectors[:1], 5).rows.tolist() == [[10, 11, 12, 13, 14]]


@every_index
@every_metric
def test_a_search_changes_nothing(make, tolerance, metric, queries):
    given = data(metric)
    index = make(metric, given.rows, given.vectors)
    before = index.search(queries, 10)
    low = dict.fromkeys({"efSearch": 1} if isinstance(index, LiveIndex) else index.spec.search, 1)
    for allowed in (None, given.rows[:5], given.rows[:200]):
        index.search(queries, 3, allowed=allowed, search=low)
    after = index.search(queries, 10)
    np.testing.assert_array_equal(before.rows, after.rows)
    np.testing.assert_array_equal(before.scores, after.scores)


@every_index
@every_metric
def test_saving_and_loading_changes_nothing(make, tolerance, metric, queries, tmp_path):
    given = data(metric)
    index = make(metric, given.rows, given.vectors)
    if isinstance(index, LiveIndex):
        pytest.skip("a LiveIndex is not saved; its segments are")
    assert isinstance(index, Index)
    digest = index.save(tmp_path / "index")
    opened = load(tmp_path / "index", digest)
    assert (opened.spec, opened.dim, len(opened)) == (index.spec, 24, 300)
    for allowed in (None, given.rows[:50]):
        one, other = index.search(queries, 10, allowed=allowed), opened.search(queries, 10, allowed=allowed)
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert opened.save(tmp_path / "again") == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "index"]


def test_flat_ties_at_the_edge_go_to_the_lower_row():
    vectors = np.tile(np.array([[3, 4, 0, 0]], dtype=np.float32), (500, 1))
    for metric in METRICS:
        for factory in ("Flat", "Exact"):
            index = build(IndexSpec(factory, metric), np.arange(500)[::-1].copy(), vectors)
            for count in (1, 25):
                for k in (1, 7, 150):
                    found = index.search(vectors[:count], k, allowed=None)
                    assert found.rows.tolist() == [list(range(k))] * count
                    found = index.search(vectors[:count], k, allowed=np.arange(100, 400))
                    assert found.rows.tolist() == [list(range(100, 100 + k))] * count
