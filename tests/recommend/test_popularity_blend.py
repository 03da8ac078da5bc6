"""How far lists fade from popularity: as far as held-out events say, and no further."""

import numpy as np
import pytest

from mmrec.recommend.popularity_blend import (
    KNOWN_EVENTS,
    MIN_USERS,
    HeldOutEvents,
    PopularityBlend,
    blended_scores,
    fit_popularity_blend,
)

ITEMS = 200


def asked(users: int, content: str, seed: int = 0) -> list[HeldOutEvents]:
    """Users whose next items are popular ones, or else those that their contents point to."""
    random = np.random.default_rng(seed)
    popularity = (1 / np.arange(1, ITEMS + 1)).astype(np.float32)
    found = []
    for user in range(users):
        for known in KNOWN_EVENTS:
            similarity = random.normal(0, 0.1, ITEMS).astype(np.float32)
            by_popularity = random.choice(ITEMS, 10, replace=False, p=popularity / popularity.sum())
            targets = np.argsort(-similarity)[:10] if content == "everything" else np.sort(by_popularity)
            if content == "helps":
                similarity[targets] += 0.1
            found.append(HeldOutEvents(user, known, popularity, similarity, targets.astype(np.int64)))
    return found


def test_where_contents_are_noise_popularity_stays() -> None:
    for seed in range(4):
        blend = fit_popularity_blend(asked(60, "noise", seed))
        assert blend is not None
        assert blend.share(20) <= 0.05


def test_where_contents_are_everything_they_take_over_at_once() -> None:
    blend = fit_popularity_blend(asked(60, "everything"))
    assert blend is not None
    assert blend.share(0) == 0
    assert blend.share(1) >= 0.9


def test_where_both_help_they_are_mixed_and_better_than_either() -> None:
    blend = fit_popularity_blend(asked(60, "helps"))
    assert blend is not None
    assert 0.1 < blend.share(10) < 0.9
    shares = [blend.share(known) for known in range(30)]
    assert shares == sorted(shares)


def test_too_few_users_say_nothing() -> None:
    assert fit_popularity_blend([]) is None
    assert fit_popularity_blend(asked(MIN_USERS - 1, "everything")) is None
    assert fit_popularity_blend(asked(MIN_USERS, "everything")) is not None


def test_a_share_of_none_orders_by_popularity_and_one_of_all_by_likeness() -> None:
    popularity = np.array([4, 0, 1, 9], dtype=np.float32)
    similarity = np.array([-0.5, 0.2, 0.4, 0.1], dtype=np.float32)
    assert blended_scores(popularity, similarity, 0).tolist() == pytest.approx([2 / 3, 0, 1 / 3, 1])
    assert blended_scores(popularity, similarity, 1).tolist() == pytest.approx([0, 0.5, 1, 0.25])
    nothing = np.zeros(4, dtype=np.float32)
    assert not blended_scores(nothing, nothing, 0.5).any()
    assert PopularityBlend(0.4, 1.0).share(1) == pytest.approx(0.2)
