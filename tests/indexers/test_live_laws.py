"""A live index over segments of any recipe, through random changes, beside a plain dictionary and float64."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from indexers import IndexSpec, LiveIndex, build
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
    """A live index over two segments that overlap, and what it should hold."""
    model = dict(zip(OLD.tolist(), FIRST, strict=True)) | dict(zip(NEW.tolist(), SECOND, strict=True))
    return LiveIndex(DIM, metric, segments(factory, metric)), model


ROWS = st.lists(st.integers(0, 520), max_size=40, unique=True)
ALLOWED = st.none() | st.sets(st.integers(0, 520), max_size=300)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ROWS, st.integers(3, 9)),
        st.tuples(st.just("remove"), ROWS, st.none()),
        st.tuples(st.just("search"), ALLOWED, st.integers(1, 60)),
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
        assert sorted(live.rows) == sorted(model)


def held(model, metric):
    vectors = np.array(list(model.values()), dtype=np.float32).reshape(-1, DIM)
    return SimpleNamespace(rows=np.array(list(model), dtype=np.int64), vectors=vectors, metric=metric)
