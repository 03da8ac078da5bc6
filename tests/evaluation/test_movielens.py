"""The protocol on real behaviour: figures of MovieLens 100K that others can reproduce."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from mmrec.evaluation.baselines import (
    ItemKNN,
    Popularity,
    PopularityBlendScorer,
    RecentPopularity,
    fit_popularity_blend_scorer,
)
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.metrics import single_target_metric
from mmrec.evaluation.model_metrics import values_of
from mmrec.evaluation.ranking import rank_targets
from mmrec.evaluation.scorer import UserModelScorer
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import EventArrays
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds
from mmrec.events.splits import leave_one_out, time_cutoff, time_split
from mmrec.examples import ml_100k_folder
from mmrec.users.interests import ContentInterests


@pytest.fixture(scope="module")
def ratings():
    """All ratings in the order of the file, and the items that have five of them."""
    with (ml_100k_folder() / "ml-100k.inter").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    users, items = (pa.array([row[column] for row in rows]).dictionary_encode() for column in (0, 1))
    user_ids, places = np.unique(np.array(users.dictionary.to_pylist()), return_inverse=True)
    item_ids, item_places = np.unique(np.array(items.dictionary.to_pylist()), return_inverse=True)
    events = EventArrays(
        pa.array(user_ids.tolist()), pa.array(item_ids.tolist()), ("rate",),
        places[users.indices.to_numpy()].astype(np.int32), item_places[items.indices.to_numpy()].astype(np.int32),
        np.zeros(len(rows), np.int16), np.array([int(row[3]) * 10**6 for row in rows]), np.arange(len(rows)),
        np.array([float(row[2]) for row in rows], np.float32),
    )  # fmt: skip
    often = np.bincount(events.items) >= 5
    return events, KnownItems.numbered(item_ids[often].tolist())


def answer(learner, train, cases, items):
    found = rank_targets(learner.fit(train, items), cases, items)
    return found, *(single_target_metric(metric, 10, found.above, found.tied).mean() for metric in ("hr", "ndcg"))


def test_leave_one_out(ratings):
    events, known = ratings
    items = Candidates(np.sort(known.rows))
    split = leave_one_out(Histories.of(clean(events, Cleaning(), known)[0], known))
    cases = EvaluationCases.of(split).answerable(items)
    assert (len(items), len(cases), split.users) == (1349, 943, 943)
    found, hit, ndcg = answer(Popularity(), split.train_and_validation(), cases, items)
    assert (hit, ndcg) == pytest.approx((0.0870, 0.0447), abs=5e-5)
    # Many papers give a tied target the first of its places.
    first = np.where(found.above < 10, 1 / np.log2(found.above + 2), 0)
    assert first.mean() == pytest.approx(0.0453, abs=5e-5)


@pytest.mark.slow
def test_later_events(ratings):
    events, known = ratings
    items = Candidates(np.sort(known.rows))
    kept = clean(events, Cleaning(), known)[0]
    # In published figures every rating is an event to predict, whatever its stars.
    split = time_split(events, known, time_cutoff(kept, 0.9), Cleaning(kinds=Kinds(ratings={})))
    cases = EvaluationCases.of(split).answerable(items)
    assert (len(split.train.items), len(cases), split.users) == (89_357, 9_930, 166)
    last = cases.take(np.isin(cases.targets, split.last_only().targets))
    assert len(last) == 166
    for learner, asked, expected in [
        (Popularity(), cases, (0.0699, 0.0327)),
        (RecentPopularity(), cases, (0.0759, 0.0387)),
        (RecentPopularity(), last, (0.1265, 0.0609)),
        (ItemKNN(), last, (0.1145, 0.0585)),
    ]:
        assert answer(learner, split.train, asked, items)[1:] == pytest.approx(expected, abs=5e-5)


def genres(known):
    """Genres of the films as contents: a weak signal of taste."""
    with (ml_100k_folder() / "ml-100k.item").open(encoding="utf-8") as file:
        own = {row[0]: set(row[3].split()) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    films = [own[known.ids[int(place)].as_py()] for place in np.argsort(known.rows)]
    names = sorted(set.union(*films))
    table = np.array([[name in film for name in names] for film in films], dtype=np.float32)
    table -= table.mean(axis=0)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.mark.slow
def test_one_event_does_not_ruin_an_untrained_list(ratings):
    """New users after any number of events are served no worse than by recent popularity, however weak the contents."""
    events, known = ratings
    items = Candidates(np.sort(known.rows), genres(known))
    split = time_split(events, known, time_cutoff(clean(events, Cleaning(), known)[0], 0.9))
    popular = RecentPopularity().fit(split.train, items)
    interests = UserModelScorer(ContentInterests(items.vectors.shape[1]), items, cold=popular)
    faded = fit_popularity_blend_scorer(split.train, items, Kinds(), interests, popular)
    assert isinstance(faded, PopularityBlendScorer)
    assert 0 <= faded.fading.share(1) <= faded.fading.share(10) < 1
    for known_events in (0, 1, 3, 5, 10):
        asked = EvaluationCases.of(split).after_first_events(known_events).answerable(items)
        base, alone, mixed = (
            values_of("ndcg@10", [rank_targets(one, asked, items)]).mean() for one in (popular, interests, faded)
        )
        assert mixed >= base - 1e-9, known_events
        if known_events:
            assert alone < base / 2
