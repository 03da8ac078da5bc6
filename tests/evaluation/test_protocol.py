"""The protocol: each target among all that the user had not met, and nothing fitted after the cutoff."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import timedelta
from inspect import getclosurevars, unwrap
from types import FunctionType

import numpy as np
import pytest
import scipy.sparse as sp
from evaluation.made_split import CUTOFF, ITEMS, KNOWN, NOW, candidates, events, logs, split_of
from events.made import START, arrays, micro
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import ContentMean, ItemKNN, Popularity, RandomOrder, RecentPopularity
from mmrec.evaluation.cases import EvaluationCases
from mmrec.evaluation.ranking import rank_targets, top_items
from mmrec.evaluation.scorer import Learner, Scorer, UserModelScorer
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import Event
from mmrec.events.histories import Histories
from mmrec.users.model import History, Interests

LEARNERS = [RandomOrder(), Popularity(), RecentPopularity(), ItemKNN(), ContentMean()]
names = pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)


@dataclass(frozen=True)
class Watching:
    """Scores by hash, and keeps what it was told."""

    told: list = field(default_factory=list)
    name: str = "watching"

    def scores(self, histories, now):
        self.told.extend(zip(histories, now.tolist(), strict=True))
        seeds = [[len(past), moment % 2**32] for past, moment in zip(histories, now.tolist(), strict=True)]
        return np.stack([np.random.default_rng(seed).integers(0, 5, len(ITEMS)) for seed in seeds]).astype(np.float32)


@given(log=logs, allow_seen=st.booleans(), budget=st.sampled_from([1, 1000, 10**6]))
@settings(max_examples=40, deadline=None)
def test_each_target_stands_among_all_that_was_not_met(log, allow_seen, budget):
    split, items = split_of(log), candidates()
    cases = EvaluationCases.of(split).answerable(items, allow_seen=allow_seen)
    scorer = Watching()
    found = rank_targets(scorer, cases, items, allow_seen=allow_seen, depth=5, budget=budget)
    assert len(scorer.told) == len(cases) == len(found.above)
    live = split.live
    for place, (target, (past, moment)) in enumerate(zip(cases.targets.tolist(), scorer.told, strict=True)):
        before = split.history(target)
        assert past.rows.tolist() == live.items[before].tolist()
        assert moment == live.times[target]
        assert (past.weights < 0).tolist() == [live.kind_names[kind] == "hide" for kind in live.kinds[before]]
        scores = Watching().scores([past], np.array([moment]))[0]
        met = set() if allow_seen else set(live.items[before].tolist())
        ranked = [item for item in range(len(ITEMS)) if item not in met]
        own = scores[live.items[target]]
        assert found.above[place] == sum(scores[item] > own for item in ranked)
        assert found.tied[place] == sum(scores[item] == own for item in ranked)
        shown = [item for item in found.lists[place].tolist() if item >= 0]
        assert len(shown) == len(set(shown)) == min(5, len(ranked))
        assert met.isdisjoint(shown)
        assert scores[shown].tolist() == sorted(scores[ranked], reverse=True)[: len(shown)]


@given(log=logs)
@settings(max_examples=30, deadline=None)
def test_targets_met_before_are_left_out_and_counted(log):
    split, items = split_of(log), candidates()
    asked = EvaluationCases.of(split)
    expected = [
        split.live.items[target] in split.live.items[split.history(target)] for target in split.targets.tolist()
    ]
    assert asked.repeats.tolist() == expected
    assert len(asked.answerable(items)) == expected.count(False)
    assert len(asked.answerable(items, allow_seen=True)) == len(asked)
    if any(expected):
        with pytest.raises(UsageError, match="answerable"):
            rank_targets(Watching(), asked, items)


before_cutoff, after_cutoff = (
    st.lists(st.builds(replace, events, time=minutes.map(lambda m: START + timedelta(minutes=m))), max_size=25)
    for minutes in (st.integers(0, CUTOFF - 1), st.integers(CUTOFF, 200))
)


def fitted(one):
    """All that was fitted, as values that compare."""
    if isinstance(one, FunctionType):
        own = getclosurevars(unwrap(one)).nonlocals  # without what a type checker wraps around it
        return [fitted(value) for _, value in sorted(own.items())]
    if is_dataclass(one):
        return [fitted(getattr(one, each.name)) for each in fields(one)]
    if isinstance(one, sp.csr_array):
        return [fitted(part) for part in (one.data, one.indices, one.indptr)]
    if isinstance(one, tuple):
        return [fitted(part) for part in one]
    return (one.dtype.str, one.shape, one.tobytes()) if isinstance(one, np.ndarray) else one


@names
@given(before=before_cutoff, after=after_cutoff, other=after_cutoff)
@settings(max_examples=15, deadline=None)
def test_another_future_fits_the_same_baseline(learner, before, after, other):
    one, two = (learner.fit(split_of([*before, *later]).train, candidates()) for later in (after, other))
    assert isinstance(learner, Learner)
    assert isinstance(one, Scorer)
    assert fitted(one) == fitted(two)


@names
def test_what_a_baseline_fits_depends_on_its_training(learner):
    log = [Event("a", f"i{n}", "like", START) for n in range(4)] + [Event("b", f"i{n}", "like", START) for n in (1, 2)]
    one, two = (learner.fit(split_of(some).train, candidates()) for some in (log, log[:-1]))
    learns = learner.name not in {"random", "content mean"}
    assert (fitted(one) != fitted(two)) == learns


@names
@given(log=logs)
@settings(max_examples=15, deadline=None)
def test_a_baseline_says_the_same_one_by_one_and_together(learner, log):
    split, items = split_of(log), candidates()
    cases = EvaluationCases.of(split)
    scorer = learner.fit(split.train, items)
    together = scorer.scores(cases.histories(range(len(cases))), cases.now)
    assert together.shape == (len(cases), len(items))
    for place in range(len(cases)):
        alone = scorer.scores(cases.histories([place]), cases.now[[place]])[0]
        np.testing.assert_allclose(alone, together[place], rtol=1e-5, atol=1e-6)


@given(log=logs, events=st.integers(0, 4), ahead=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_newcomers_are_asked_once_about_what_comes_next(log, events, ahead):
    split = split_of(log)
    opened = EvaluationCases.of(split).after_first_events(events, ahead)
    for place, target in enumerate(opened.targets.tolist()):
        start = split.live.offsets[split.live.owners[target]]
        assert split.live.times[start] >= micro(CUTOFF)
        assert opened.lengths[place] == events
        assert (opened.starts[place], opened.stops[place]) == (start, start + events)
        assert start + events <= target < start + events + ahead
        assert opened.now[place] == split.live.times[start + events]
        assert len(opened.seen(place)) == events


@given(log=logs, events=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_knowing_less_leaves_targets_and_rivals_as_they_are(log, events):
    full = EvaluationCases.of(split_of(log))
    less = full.with_newest_events(events)
    assert np.array_equal(less.targets, full.targets)
    for place, (past, whole) in enumerate(zip(*(q.histories(range(len(full))) for q in (less, full)), strict=True)):
        assert past.rows.tolist() == whole.rows.tolist()[len(whole) - min(events, len(whole)) :]
        assert np.array_equal(less.seen(place), full.seen(place))


class Pairs:
    """A user model in the space of contents: the last two items, each an interest; the moment is kept."""

    name, dim = "pairs", 6

    def __init__(self):
        self.moments = []

    def items(self, rows, contents):
        return contents

    def users(self, histories, vectors, now=None):
        self.moments.append(now if now is None else now.tolist())
        return [
            Interests(own[-2:][::-1], np.full(len(own[-2:]), 1 / max(1, len(own[-2:])), dtype=np.float32), 0.5)
            for own in vectors
        ]


@given(log=logs, timed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_user_model_scores_as_a_search_with_its_vectors(log, timed):
    split, items = split_of(log), candidates()
    cases, model = EvaluationCases.of(split), Pairs()
    cold = Popularity().fit(split.train, items)
    scorer = UserModelScorer(model, items, cold, timed)
    assert isinstance(scorer, Scorer)
    assert scorer.name == "pairs"
    histories = cases.histories(range(len(cases)))
    scored = scorer.scores(histories, cases.now)
    for line, past in enumerate(histories):
        if not len(past):
            expected = cold.scores([past], cases.now[[line]])[0]
        else:
            near = items.vectors[past.rows[-2:]].astype(np.float64) @ items.vectors.T
            expected = near.max(axis=0)
        np.testing.assert_allclose(scored[line], expected, atol=1e-5)
    assert model.moments == ([cases.now.tolist()] if timed else [None])


def test_recent_popularity_counts_the_window_before_the_moment():
    log = [Event("abc"[n % 3], f"i{n % 4}", "like", START.replace(day=1 + n)) for n in range(20)]
    train = Histories.of(clean(arrays(log), Cleaning(), KNOWN, NOW)[0], KNOWN)
    scorer = RecentPopularity().fit(train, candidates())
    day = 24 * 60
    now = np.array([micro(day * d + 1) for d in (40, 10, 0, 16)])
    none = np.empty(0, dtype=np.int64)
    scored = scorer.scores([History(none, (), none.astype(np.float32), none)] * 4, now)
    total = np.bincount(train.items, minlength=len(ITEMS))
    for line, moment in enumerate(now.tolist()):
        end = min(moment, int(train.times.max()) + 1)
        inside = (train.times >= end - 14 * day * 60_000_000) & (train.times < end)
        expected = np.bincount(train.items[inside], minlength=len(ITEMS)) + total / (total.max() + 1)
        np.testing.assert_allclose(scored[line], expected, rtol=1e-6)


def test_scores_that_are_none_are_refused():
    split, items = split_of([Event("a", "i1", "like", START.replace(day=2))]), candidates()
    cases = EvaluationCases.of(split)

    @dataclass(frozen=True)
    class Broken:
        given: np.ndarray
        name: str = "broken"

        def scores(self, histories, now):
            return self.given

    with pytest.raises(UsageError, match="NaN"):
        rank_targets(Broken(np.full((1, len(ITEMS)), np.nan, dtype=np.float32)), cases, items)
    with pytest.raises(UsageError, match="shape"):
        rank_targets(Broken(np.zeros((1, 3), dtype=np.float32)), cases, items)


def test_the_order_of_tied_items_favours_no_place():
    lists = top_items(np.zeros((1, 1000), dtype=np.float32), 20)[0]
    assert len(set(lists.tolist())) == 20
    assert 200 < lists.mean() < 800
