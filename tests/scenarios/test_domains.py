"""Shop, social topics, video and news: three events and no training give sensible lists."""

from itertools import combinations, product
from statistics import mean

import pytest

VIEW = "view"


def viewed(*items: str) -> list[tuple[str, str]]:
    return [(item, VIEW) for item in items]


def test_phone_tablet_and_laptop(catalogs) -> None:
    shop = catalogs("shop")
    for phone, tablet, laptop in zip(shop.of("phones"), shop.of("tablets"), shop.of("laptops"), strict=True):
        found = shop.topics_of(shop.engine.recommend(history=viewed(phone, tablet, laptop)))
        assert {"phones", "tablets", "laptops"} <= set(found)
        assert "garden tools" not in found


THREE = {
    "social": ("travel", "photography", "food"),
    "video": ("technology", "entertainment", "education"),
    "news": ("economy", "science", "football"),
}


@pytest.mark.parametrize("name", THREE)
def test_three_subjects_are_all_there(catalogs, name) -> None:
    catalog = catalogs(name)
    events = viewed(*(catalog.of(topic)[0] for topic in THREE[name]))
    assert set(THREE[name]) <= set(catalog.topics_of(catalog.engine.recommend(history=events)))


@pytest.mark.parametrize("name", THREE)
def test_they_are_there_whichever_items_stood_for_them(catalogs, name) -> None:
    catalog = catalogs(name)
    whole, right = [], []
    for events in product(*(catalog.of(topic)[::2] for topic in THREE[name])):
        found = catalog.topics_of(catalog.engine.recommend(history=viewed(*events)))
        whole.append(set(THREE[name]) <= set(found))
        right.append(mean(topic in THREE[name] for topic in found))
    assert mean(whole) >= 0.9
    assert mean(right) >= 0.85


SWITCHES = [
    ("shop", "phones", "garden tools", ("gd1", "gd3", "gd8")),
    ("social", "travel", "photography", ("po1", "po4", "po6")),
    ("video", "technology", "education", ("ed1", "ed4", "ed5")),
    ("news", "economy", "football", ("fb1", "fb3", "fb4")),
]


@pytest.mark.parametrize(("name", "before", "after", "events"), SWITCHES)
def test_a_switch_of_interest_is_followed_and_the_long_term_stays(catalogs, name, before, after, events) -> None:
    catalog = catalogs(name)
    found = catalog.engine.recommend(history=viewed(*catalog.of(before)[:4], *events), k=20)
    topics = catalog.topics_of(found)
    assert topics[:5] == [after] * 5
    assert before in topics
    assert found.short_share > 0.7


@pytest.mark.parametrize(("name", "before", "after", "events"), SWITCHES)
def test_it_is_followed_whichever_items_stood_for_it(catalogs, name, before, after, events) -> None:
    catalog = catalogs(name)
    followed, kept = [], []
    for last in list(combinations(catalog.of(after), 3))[::5]:
        found = catalog.engine.recommend(history=viewed(*catalog.of(before)[:4], *last), k=20)
        topics = catalog.topics_of(found)
        followed.append(mean(topic == after for topic in topics[:5]))
        kept.append(before in topics)
    assert mean(followed) >= 0.9
    assert mean(kept) >= 0.9


def test_staying_with_an_interest_is_no_switch(catalogs) -> None:
    shop = catalogs("shop")
    assert shop.engine.recommend(history=viewed(*shop.of("phones"))).short_share < 0.6


@pytest.mark.parametrize("name", ["shop", "social", "video", "news"])
def test_a_text_places_a_new_person(catalogs, name) -> None:
    catalog = catalogs(name)
    texts = {
        "shop": ("rake and spade for my garden", "garden tools"),
        "social": ("holiday trips and beaches", "travel"),
        "video": ("lessons for school and university", "education"),
        "news": ("goals and matches of football clubs", "football"),
    }
    text, topic = texts[name]
    found = catalog.engine.recommend(text=text, k=5)
    assert catalog.topics_of(found).count(topic) >= 4
    assert {hit.source for hit in found.hits} == {"text"}
    assert found.popular_share == 0


@pytest.mark.parametrize("name", ["shop", "social", "video", "news"])
def test_a_stranger_sees_all_sides_of_the_catalog(catalogs, name) -> None:
    catalog = catalogs(name)
    found = catalog.engine.recommend()
    assert len(found.hits) == 10
    assert len(set(catalog.topics_of(found))) >= 5
    assert found.popular_share == 1
