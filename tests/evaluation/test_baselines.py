"""Baselines against their formulas, written out in float64."""

import numpy as np
import pytest
from evaluation.made_split import ITEMS, candidates, logs, split_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import ContentMean, ItemKNN, Popularity
from mmrec.evaluation.cases import Candidates, EvaluationCases


def people_of(histories):
    """Items that each user spoke for, as sets."""
    speaks = [name != "hide" for name in histories.kind_names]
    return [
        {int(item) for item, kind in zip(histories.items[span], histories.kinds[span], strict=True) if speaks[kind]}
        for span in map(histories.span, range(len(histories)))
    ]


@given(log=logs, neighbours=st.integers(1, 12), shrinkage=st.sampled_from([0.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_item_knn(log, neighbours, shrinkage):
    split = split_of(log)
    met = people_of(split.train)
    similar = np.zeros((len(ITEMS), len(ITEMS)))
    for a in range(len(ITEMS)):
        for b in range(len(ITEMS)):
            together = sum(a in one and b in one for one in met)
            norms = np.sqrt(sum(a in one for one in met) * sum(b in one for one in met))
            similar[a, b] = together / (norms + shrinkage) if together and a != b else 0
    for line in similar:
        # Of equal neighbours the first are kept.
        line[np.argsort(-line, kind="stable")[neighbours:]] = 0
    cases = EvaluationCases.of(split)
    histories = cases.histories(range(len(cases)))
    scores = ItemKNN(neighbours, shrinkage, half_life=3.0).fit(split.train, candidates()).scores(histories, cases.now)
    for past, scored in zip(histories, scores, strict=True):
        ages = np.arange(len(past))[::-1]
        expected = (past.weights * 0.5 ** (ages / 3)) @ similar[past.rows] if len(past) else np.zeros(len(ITEMS))
        np.testing.assert_allclose(scored, expected, atol=1e-4)


@given(log=logs)
@settings(max_examples=25, deadline=None)
def test_content_mean(log):
    split, items = split_of(log), candidates()
    cases = EvaluationCases.of(split)
    histories = cases.histories(range(len(cases)))
    scores = ContentMean(half_life=2.0).fit(split.train, items).scores(histories, cases.now)
    vectors = items.vectors.astype(np.float64)
    for past, scored in zip(histories, scores, strict=True):
        weights = past.weights * 0.5 ** (np.arange(len(past))[::-1] / 2)
        mean = weights @ vectors[past.rows]
        length = np.linalg.norm(mean)
        if length > 1e-3 or not len(past):
            np.testing.assert_allclose(scored, vectors @ (mean / length if length else mean), atol=1e-4)


@given(log=logs)
@settings(max_examples=25, deadline=None)
def test_popularity_counts_what_speaks_for_an_item(log):
    train = split_of(log).train
    expected = np.zeros(len(ITEMS))
    for item, kind in zip(train.items.tolist(), train.kinds.tolist(), strict=True):
        expected[item] += train.kind_names[kind] != "hide"
    scorer = Popularity().fit(train, candidates())
    cases = EvaluationCases.of(split_of(log))
    for scored in scorer.scores(cases.histories(range(len(cases))), cases.now):
        assert scored.tolist() == expected.tolist()


def test_candidates_are_looked_up_by_row_and_not_by_place():
    some = Candidates(np.array([3, 5, 2**40]))
    assert some.places(np.array([5, 4, 2**40, 0, 2**41])).tolist() == [1, -1, 2, -1, -1]
    assert Candidates(np.empty(0, dtype=np.int64)).places(np.array([1])).tolist() == [-1]
    with pytest.raises(UsageError, match="ascending"):
        Candidates(np.array([2, 1]))
    with pytest.raises(UsageError, match="needs content vectors"):
        ContentMean().fit(split_of([]).train, some)
