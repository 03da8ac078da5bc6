"""People of two far tastes, hides and the dial of diversity, where the geometry is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.stats import kendalltau

from mmrec.query import Part
from mmrec.recommend.answer import ListOptions
from mmrec.recommend.recommender import Recommender
from mmrec.recommend.user_item_space import UserItemSpace, content_space
from mmrec.users.interests import ContentInterests

PEOPLE = 100


def one_vector(engine) -> Recommender:
    """Recommend with all interests of a person drawn into one vector."""

    def space(snapshot) -> UserItemSpace:
        return replace(content_space(snapshot), model=ContentInterests(snapshot.index.dim, most=1, min_cosine=-1.0))

    return Recommender(engine._fresh_snapshot, engine._queries, engine._events, space)


def test_both_tastes_are_in_the_top_twenty(far) -> None:
    """Seven events of one taste, then two of the other: several vectors keep both, one vector does not always."""
    rng = np.random.default_rng(0)
    single = one_vector(far.engine)
    both, both_by_one, right = [], [], []
    for _ in range(PEOPLE):
        first, second = rng.choice(40, 2, replace=False).tolist()
        past = [*rng.choice(far.members(first), 7, replace=False), *rng.choice(far.members(second), 2, replace=False)]
        history = [(str(item), "view") for item in past]
        many = far.clusters_of(far.engine.recommend(history=history, k=20))
        alone = far.clusters_of(single.recommend(None, history, None, ListOptions(k=20)))
        both.append({first, second} <= set(many))
        both_by_one.append({first, second} <= set(alone))
        right.append(np.mean(np.isin(many, [first, second])))
    assert np.mean(both) >= 0.95
    assert np.mean(right) >= 0.95
    assert np.mean(both) > np.mean(both_by_one)


def test_the_twenty_nearest_of_a_hidden_item_sink(far) -> None:
    rng = np.random.default_rng(1)
    moved = []
    for _ in range(20):
        first, second = rng.choice(40, 2, replace=False).tolist()
        past = [*rng.choice(far.members(first), 3, replace=False), *rng.choice(far.members(second), 3, replace=False)]
        history = [(str(item), "like") for item in past]
        before = far.engine.recommend(history=history, k=80)
        hidden = next(hit.id for hit in before.hits if hit.id.startswith(f"{first}-"))
        after = far.engine.recommend(history=[*history, (hidden, "hide")], k=80)
        ranks, then = ({hit.id: rank for rank, hit in enumerate(one.hits)} for one in (before, after))
        assert hidden not in then
        near = [hit.id for hit in far.engine.similar(hidden, k=20 + len(past)).hits if hit.id in ranks][:20]
        # What fell off the list is at least as far down as its end.
        assert np.mean([then.get(item, 80) for item in near]) > np.mean([ranks[item] for item in near])
        other = [item for item in ranks if item.startswith(f"{second}-") and item in then]
        assert len(other) >= 20
        moved.append(kendalltau([ranks[item] for item in other], [then[item] for item in other]).statistic)
    assert np.mean(moved) >= 0.9


def test_the_dial_reaches_a_fifth_more_diversity_without_a_step_back(far) -> None:
    dial = np.linspace(0, 1, 6)
    spreads = np.array([[spread(far, f"{cluster}-0", at) for at in dial] for cluster in range(0, 40, 4)]).mean(axis=0)
    assert all(more >= less - 1e-3 for less, more in pairwise(spreads.tolist())), spreads
    assert spreads[3] >= 1.2 * spreads[0], spreads


def spread(far, item: str, dial: float) -> float:
    ids = [hit.id for hit in far.engine.recommend(history=[item], diversity=float(dial)).hits]
    vectors = far.engine.vectors(ids)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.mean(1 - (vectors @ vectors.T)[np.triu_indices(len(ids), 1)]))


def test_a_long_past_is_left_out_whole(far) -> None:
    """More events than a search is asked for beside the list: the search itself is told what to leave out."""
    seen = [item for cluster in range(15) for item in far.members(cluster)]
    found = far.engine.recommend(history=seen, k=1500)
    assert len(found.hits) == 2000 - len(seen)
    assert not {hit.id for hit in found.hits} & set(seen)


def test_a_text_and_a_past_share_the_list(far) -> None:
    found = far.engine.recommend(history=["3-1", "3-2"], text="7 0", k=20)
    clusters = far.clusters_of(found)
    assert 8 <= clusters.count(3) <= 12
    assert 8 <= clusters.count(7) <= 12
    alone = far.engine.recommend(text="7 0", k=20)
    assert [hit.id for hit in alone.hits] == [hit.id for hit in far.engine.search([Part("text", "7 0")], k=20).hits]


def test_two_calls_give_the_same_list(far) -> None:
    history = [("3-1", "view"), ("9-2", "like"), ("12-5", "purchase"), ("9-3", "hide")]
    lists = [far.engine.recommend(history=history, k=50, diversity=0.3) for _ in range(2)]
    assert [hit.id for hit in lists[0].hits] == [hit.id for hit in lists[1].hits]
    assert lists[0].interests == lists[1].interests
