"""What is turned down is gone at once, its like sinks, and lists of other interests barely move."""

import numpy as np
import pytest
from scipy.stats import kendalltau

EVERYTHING = 100


def ranks(answer) -> dict[str, int]:
    return {hit.id: rank for rank, hit in enumerate(answer.hits)}


def nearest(catalog, item: str, among: list[str], count: int) -> list[str]:
    vectors = catalog.engine.vectors([item, *among])
    return [among[place] for place in np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:count]]


@pytest.mark.parametrize(
    ("name", "liked", "hidden"),
    [
        ("shop", ["ph1", "ph2", "gd1", "gd3"], "ph5"),
        ("social", ["tr1", "tr2", "fo1", "fo4"], "tr7"),
        ("video", ["te1", "te3", "ed1", "ed5"], "te6"),
        ("news", ["ec1", "ec2", "fb1", "fb3"], "ec5"),
    ],
)
def test_a_hide_acts_on_the_next_list(catalogs, name, liked, hidden) -> None:
    """Its eight nearest: more are not like it in so small a catalog."""
    catalog = catalogs(name)
    likes = [(item, "like") for item in liked]
    before = ranks(catalog.engine.recommend(history=likes, k=EVERYTHING))
    after = ranks(catalog.engine.recommend(history=[*likes, (hidden, "hide")], k=EVERYTHING))
    assert hidden in before
    assert hidden not in after
    # Ranks among what both lists have, so that the place of the hidden item itself moves nothing.
    left = {item: rank for rank, item in enumerate(item for item in before if item != hidden)}
    assert set(after) == set(left)
    like_it = nearest(catalog, hidden, list(left), 8)
    assert np.mean([after[item] - left[item] for item in like_it]) > 0.5


@pytest.mark.parametrize(
    ("name", "other", "hidden"),
    [
        ("shop", ["gd1", "gd3", "gd8"], "ph5"),
        ("social", ["fo1", "fo4", "fo5"], "tr7"),
        ("video", ["ed1", "ed5", "ed7"], "te6"),
        ("news", ["fb1", "fb3", "fb4"], "ec5"),
    ],
)
def test_lists_of_other_interests_barely_move(catalogs, name, other, hidden) -> None:
    """Half of so small a catalog are the hidden item's nearest, which are to sink in every list: all others stay."""
    catalog = catalogs(name)
    likes = [(item, "like") for item in other]
    before = ranks(catalog.engine.recommend(history=likes, k=EVERYTHING))
    after = ranks(catalog.engine.recommend(history=[*likes, (hidden, "hide")], k=EVERYTHING))
    like_it = nearest(catalog, hidden, [item for item in catalog.topics if item != hidden], 20)
    both = [item for item in before if item in after and item not in like_it]
    assert len(both) >= 20
    assert kendalltau([before[item] for item in both], [after[item] for item in both]).statistic >= 0.9


def test_what_was_turned_down_never_comes_back_but_may_be_liked_again(shop) -> None:
    found = shop.engine.recommend(history=["ph1", ("ph2", "hide")], exclude_seen=False, k=EVERYTHING)
    assert {"ph1"} == {"ph1", "ph2"} & {hit.id for hit in found.hits}
    found = shop.engine.recommend(history=[("ph2", "hide"), "ph1", "ph2"], exclude_seen=False, k=EVERYTHING)
    assert {"ph1", "ph2"} <= {hit.id for hit in found.hits}


def test_who_only_turned_things_down_gets_what_is_popular_elsewhere(catalogs) -> None:
    shop = catalogs("shop")
    hidden = [(item, "hide") for item in shop.of("garden tools")[:3]]
    found = shop.engine.recommend(history=hidden, k=EVERYTHING)
    assert found.popular_share == 1
    assert len(found.hits) == len(shop.topics) - 3
    stranger = shop.topics_of(shop.engine.recommend(k=EVERYTHING))
    assert mean_rank(shop.topics_of(found), "garden tools") > mean_rank(stranger, "garden tools")


def mean_rank(topics: list[str], topic: str) -> float:
    return float(np.mean([rank for rank, its in enumerate(topics) if its == topic]))
