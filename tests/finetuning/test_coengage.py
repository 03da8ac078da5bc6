"""Co-engagement: its pairs against loops over people, what a batch masks, and the correction for popularity."""

from collections import Counter

import numpy as np
import pytest
import torch
from finetuning.made_histories import MINUTE, histories_of
from finetuning.towers import named
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmrec.errors import UsageError
from mmrec.finetuning.coengage import CoEngage, pairs_of
from mmrec.finetuning.config import CoEngageConfig, FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.types import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
COUNT = 9
events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 300)), max_size=25)
items = st.integers(0, COUNT - 1)
pair_lists = st.lists(st.tuples(items, items).filter(lambda pair: pair[0] != pair[1]), min_size=2, max_size=40)


@settings(deadline=None)
@given(events, st.integers(1, 6), st.sampled_from([None, 0.05, 1.0, 2.5]), st.data())
def test_pairs_are_those_of_each_person_s_events_that_speak(some, window, hours, data):
    histories = histories_of(some)
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=len(some), max_size=len(some))), dtype=bool)
    expected = Counter()
    for person in range(len(histories)):
        span = histories.span(person)
        told = [at for at in range(span.start, span.stop) if positive[at]]
        for place, one in enumerate(told):
            for other in told[place + 1 : place + 1 + window]:
                apart = (histories.times[other] - histories.times[one]) / MINUTE
                if histories.items[one] != histories.items[other] and (hours is None or apart <= hours * 60):
                    expected[int(histories.items[one]), int(histories.items[other]), person] += 1
    found = pairs_of(histories, positive, CoEngageConfig(window=window, hours=hours))
    assert Counter(zip(*(side.tolist() for side in found), strict=True)) == expected


def corpus_of(texts, pictures=None):
    hashes = {TEXT: texts} if pictures is None else {TEXT: texts, IMAGE: pictures}
    return Corpus.of(list(range(len(texts))), hashes)


def one_each(count):
    """Items of one text each, numbered as the items are."""
    return corpus_of([[named(TEXT, f"{at:04}")] for at in range(count)])


def objective_of(corpus, pairs, **settings):
    left, right = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    return CoEngage(corpus, (left, right), FinetuneConfig(**{"device": "cpu", "batch": 8, **settings}))


owned = st.lists(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=2), min_size=COUNT, max_size=COUNT)


@settings(deadline=None)
@given(owned, owned, pair_lists, st.data())
def test_a_batch_masks_all_pairs_that_are_no_strangers(texts, pictures, pairs, data):
    objective = objective_of(corpus_of(texts, pictures), pairs)
    which = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=2, unique=True))
    known = {frozenset(pair) for pair in pairs}

    def related(one, other):
        shared = set(texts[one]) & set(texts[other]) or set(pictures[one]) & set(pictures[other])
        return bool(one == other or shared)

    def strangers(one, other):
        (left, right), (others_left, others_right) = pairs[one], pairs[other]
        near = related(left, others_left) or related(right, others_right)
        near = near or related(left, others_right) or related(others_left, right)
        return not (near or {left, others_right} in known or {others_left, right} in known)

    left, right = (np.array([pairs[at][side] for at in which]) for side in (0, 1))
    expected = [[not strangers(one, other) for other in which] for one in which]
    assert objective._related(left, right).tolist() == expected


@settings(deadline=None)
@given(pair_lists, st.integers(2, 12), st.sampled_from([None, 2, 7]), st.integers(0, 3))
def test_an_epoch_is_each_pair_once_or_as_many_as_are_asked_for(pairs, batch, most, epoch):
    objective = objective_of(one_each(COUNT), pairs, batch=batch, coengage={"pairs": most})
    steps = list(objective.steps(epoch))
    wanted = len(pairs) if most is None else min(most, len(pairs))
    sizes = [len(some) for some in np.array_split(range(wanted), -(-wanted // batch))]
    assert [step.count for step in steps] == [size for size in sizes if size >= 2]
    for step in steps:
        assert step.count <= batch
        assert np.array_equal(step.contents[TEXT], np.unique(step.contents[TEXT]))
        assert set(step.contents[TEXT].tolist()) <= {item for pair in pairs for item in pair}
        assert 0 <= step.progress < 1
    again = objective_of(one_each(COUNT), pairs, batch=batch, coengage={"pairs": most}).steps(epoch)
    assert [step.contents[TEXT].tolist() for step in steps] == [step.contents[TEXT].tolist() for step in again]


def loss_by_hand(left, right, same, scale, odds):
    """The mean of the definition in float64, one pair at a time."""
    scores = scale * left @ right.T
    total = 0.0
    for one in range(len(left)):
        for table, shares in ((scores[one], odds[1]), (scores[:, one], odds[0])):
            corrected = table - shares
            allowed = [at == one or not same[one, at] for at in range(len(left))]
            total += np.log(np.exp(corrected[allowed]).sum()) - corrected[one]
    return total / 2 / len(left)


@pytest.mark.parametrize("correct", [0.0, 0.5, 1.0])
def test_the_correction_takes_away_the_logarithm_of_how_often_an_item_is_drawn(correct):
    random = np.random.default_rng(0)
    pairs = [(0, 1), (2, 3), (4, 5), (0, 6), (0, 7)]
    objective = objective_of(one_each(8), pairs, coengage={"correct": correct})
    (step,) = objective.steps(1)
    vectors = random.normal(size=(8, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    drawn = Counter(item for pair in pairs for item in pair)
    share = np.log([drawn[item] / 10 for item in range(8)])
    left, right = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    same = objective._related(left, right)
    wanted = loss_by_hand(vectors[left], vectors[right], same, 20.0, (correct * share[left], correct * share[right]))
    found = step.loss({TEXT: torch.from_numpy(vectors[step.contents[TEXT]].astype(np.float32))})
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_with_the_correction_the_popular_are_pushed_away_less():
    """The pull on a popular item as somebody's negative, with and without."""
    pairs = [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6), (7, 8)]
    pushes = {}
    for correct in (0.0, 1.0):
        objective = objective_of(one_each(9), pairs, coengage={"correct": correct}, scale=1.0)
        (step,) = objective.steps(1)
        vectors = torch.eye(9).requires_grad_()
        step.loss({TEXT: vectors}).backward()
        # How much the loss of the pair 5-6 would fall if item 0 went further from 6.
        pushes[correct] = vectors.grad[6, 0].item()
    assert 0 < pushes[1.0] < pushes[0.0]


def test_frequent_items_are_thinned_out_as_the_formula_says():
    pairs = [(0, at) for at in range(1, 9)] * 250
    objective = objective_of(one_each(9), pairs, batch=2_000, coengage={"subsample": 0.01})
    share = np.array([0.5] + [0.5 / 8] * 8)
    chance = float(np.prod(np.sqrt(0.01 / share[:2])))
    kept = sum(sum(step.count for step in objective.steps(epoch)) for epoch in range(20))
    assert binomtest(kept, 20 * len(pairs), chance).pvalue > 1e-4
    epochs = [sum(step.count for step in objective.steps(epoch)) for epoch in range(3)]
    assert len(set(epochs)) > 1


@given(pair_lists)
@settings(deadline=None)
def test_what_is_rare_is_never_thinned_out(pairs):
    counts = Counter(item for pair in pairs for item in pair)
    most = max(counts.values()) / sum(counts.values())
    assume(most < 0.99)
    objective = objective_of(one_each(COUNT), pairs, batch=100, coengage={"subsample": min(0.999, most * 1.001)})
    assert sum(step.count for step in objective.steps(1)) == len(pairs)


@pytest.mark.parametrize("pairs", [[], [(0, 1)]])
def test_fewer_than_two_pairs_are_nothing_to_learn_from(pairs):
    with pytest.raises(UsageError, match="nothing to learn from"):
        objective_of(one_each(3), pairs)
