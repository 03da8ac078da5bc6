"""Tuning measures what it says, meets what is asked where it can, and says so where it cannot."""

import numpy as np
import pytest

from indexers import IndexersError, build
from indexers.tuning import Requirement, tune


@pytest.fixture(scope="module")
def catalog():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 32), dtype=np.float32)
    vectors = centres[rng.integers(60, size=6000)] + 0.5 * rng.standard_normal((6000, 32), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.arange(6000) * 2, vectors[:6000], vectors[rng.integers(6000, size=160)] + np.float32(0.01)


RECIPES = ("Flat", "HNSW32,Flat", "IVF,SQ8", "IVF,PQ{quarter}x4fs,RFlat")


def test_the_choice_meets_the_requirement_when_it_is_measured_again(catalog):
    rows, vectors, queries = catalog
    seen = []
    found = tune(rows, vectors, queries, Requirement(0.9), recipes=RECIPES, report=seen.append)
    assert found.choice is not None
    assert found.nearest == found.choice
    assert tuple(seen) == found.trials
    assert [one.spec.factory for one in found.trials] == ["Flat", "HNSW32,Flat", "IVF,SQ8", "IVF,PQ8x4fs,RFlat"]
    assert found.choice.queries_per_second == max(t.queries_per_second for t in found.trials if t.recall >= 0.9)
    truth = build(found.trials[0].spec, rows, vectors).search(queries, 10).rows
    got = build(found.choice.spec, rows, vectors).search(queries, 10).rows
    assert np.mean([np.isin(a, b).mean() for a, b in zip(got, truth, strict=True)]) >= 0.87
    assert found.trials[0].recall == 1.0


def test_less_effort_than_chosen_would_not_reach_the_recall(catalog):
    rows, vectors, queries = catalog
    (trial,) = tune(rows, vectors, queries, Requirement(0.98), recipes=["IVF,SQ8"]).trials
    (easier,) = tune(rows, vectors, queries, Requirement(0.5), recipes=["IVF,SQ8"]).trials
    assert easier.spec.search["nprobe"] < trial.spec.search["nprobe"]
    assert easier.recall < trial.recall


def test_what_no_recipe_meets_is_infeasible_and_the_nearest_is_named(catalog):
    rows, vectors, queries = catalog
    found = tune(rows, vectors, queries, Requirement(0.9, milliseconds=1e-6), recipes=RECIPES[:2])
    assert found.choice is None
    assert found.nearest.misses(Requirement(0.9, milliseconds=1e-6)) == ["latency"]
    with pytest.raises(IndexersError, match=r"1,000 bytes are allowed; the smallest .* takes [\d,]+"):
        tune(rows, vectors, queries, Requirement(memory_bytes=1000), recipes=RECIPES)


def test_recipes_over_the_memory_are_not_built(catalog):
    rows, vectors, queries = catalog
    found = tune(rows, vectors, queries, Requirement(0.5, memory_bytes=500_000), recipes=RECIPES)
    assert {one.spec.factory for one in found.trials} == {"IVF,SQ8"}
    assert all(one.memory_bytes <= 500_000 for one in found.trials)


def test_the_pareto_front_leaves_out_what_another_beats_in_everything(catalog):
    rows, vectors, queries = catalog
    found = tune(rows, vectors, queries, Requirement(0.9), recipes=RECIPES)
    for one in found.pareto:
        for other in found.trials:
            better = other.recall > one.recall and other.queries_per_second > one.queries_per_second
            assert not (better and other.memory_bytes < one.memory_bytes)
    assert max(found.trials, key=lambda one: one.queries_per_second) in found.pareto


@pytest.mark.parametrize("given", [{"recall": 0.0}, {"recall": 1.5}, {"memory_bytes": 0}, {"milliseconds": -1.0}])
def test_a_requirement_that_means_nothing_is_refused(given):
    with pytest.raises(IndexersError):
        Requirement(**given)


def test_a_single_query_is_too_few(catalog):
    rows, vectors, queries = catalog
    with pytest.raises(IndexersError, match="two or more"):
        tune(rows, vectors, queries[:1], Requirement())
