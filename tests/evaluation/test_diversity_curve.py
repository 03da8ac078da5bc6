"""Accuracy against diversity."""

import numpy as np
import pytest
from evaluation.made_split import candidates, split_of
from evaluation.test_evaluate import log

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import ItemKNN
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.diversity_curve import accuracy_diversity_curve, intra_list_diversity
from mmrec.evaluation.metrics import single_target_metric
from mmrec.evaluation.ranking import rank_targets


def asked():
    split, items = split_of(log()), candidates()
    cases = EvaluationCases.of(split).answerable(items)
    return ItemKNN().fit(split.train, items), cases, items


def test_at_zero_the_lists_are_those_of_the_ranking():
    scorer, cases, items = asked()
    (plain,) = accuracy_diversity_curve(scorer, cases, items, [0.0], k=5)
    ranked = rank_targets(scorer, cases, items, depth=5)
    assert plain.diversity == pytest.approx(np.nanmean(intra_list_diversity(ranked.lists, items.vectors)), abs=0.05)
    assert plain.ndcg == pytest.approx(single_target_metric("ndcg", 5, ranked.above, ranked.tied).mean(), abs=0.05)


def test_turning_the_dial_spreads_the_lists():
    scorer, cases, items = asked()
    found = accuracy_diversity_curve(scorer, cases, items, [0.0, 0.5, 1.0], k=5)
    assert found[0].diversity < found[2].diversity
    assert [one.setting for one in found] == [0.0, 0.5, 1.0]


def test_few_are_drawn_alike_each_time():
    scorer, cases, items = asked()
    assert accuracy_diversity_curve(scorer, cases, items, [0.3], most=7) == accuracy_diversity_curve(
        scorer, cases, items, [0.3], most=7
    )


def test_without_vectors_there_is_nothing_to_spread():
    scorer, cases, items = asked()
    with pytest.raises(UsageError, match="vectors"):
        accuracy_diversity_curve(scorer, cases, Candidates(items.rows), [0.0])
