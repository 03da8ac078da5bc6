"""The dial of diversity: no step back, and far enough."""

from itertools import pairwise

import numpy as np
import pytest

DIAL = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0]


def spread(catalog, ids: list[str]) -> float:
    """Mean of one minus the cosine over all pairs."""
    vectors = catalog.engine.vectors(ids)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    upper = np.triu_indices(len(ids), 1)
    return float(np.mean(1 - (vectors @ vectors.T)[upper]))


@pytest.mark.parametrize(
    ("name", "liked"), [("shop", "phones"), ("social", "food"), ("video", "education"), ("news", "football")]
)
def test_more_of_it_spreads_the_list(catalogs, name, liked) -> None:
    catalog = catalogs(name)
    spreads = []
    for dial in DIAL:
        answers = [catalog.engine.recommend(history=[event], diversity=dial) for event in catalog.of(liked)]
        spreads.append(np.mean([spread(catalog, [hit.id for hit in found.hits]) for found in answers]))
    assert all(more >= less - 1e-3 for less, more in pairwise(spreads)), spreads
    assert spreads[-1] > spreads[0]
    if name == "shop":  # the other lists are of eight items of a subject and two of any: far apart to begin with
        assert spreads[5] >= 1.2 * spreads[0], spreads


def test_without_it_the_order_is_that_of_the_search(catalogs) -> None:
    shop = catalogs("shop")
    found = shop.engine.recommend(history=["ph1"])
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert [hit.id for hit in found.hits] == [hit.id for hit in shop.engine.similar("ph1").hits]


def test_a_long_feed_shows_everything_once(catalogs) -> None:
    shop = catalogs("shop")
    found = shop.engine.recommend(history=["ph1", "gd1"], k=60, diversity=0.5)
    assert sorted(hit.id for hit in found.hits) == sorted(set(shop.topics) - {"ph1", "gd1"})
