"""Values count: who loves and who hates the same items get other lists; and lists fade from popularity."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from recommend.conftest import CLUSTERS, EACH, Clustered, Shop

import mmrec

THREE = ["3-0", "3-1", "3-2"]
THEN = datetime.now(UTC) - timedelta(days=60)


def happened(user: str, items: list[str], stars: float | None, minutes: float, kind: str = "rate") -> list[mmrec.Event]:
    start = THEN + timedelta(minutes=minutes)
    return [mmrec.Event(user, item, kind, start + timedelta(seconds=at), stars) for at, item in enumerate(items)]


def crowd(
    next_items: Callable[[np.random.Generator], list[str]], users: int = 80, stars: bool = True
) -> list[mmrec.Event]:
    random = np.random.default_rng(0)
    found = []
    for user in range(users):
        values = random.integers(2, 6, 20) if stars else np.full(20, 4)
        for at, (item, star) in enumerate(zip(next_items(random), values.tolist(), strict=False)):
            found += happened(f"c{user:03}", [item], float(star), user * 100 + at)
    return found


def one_cluster(random: np.random.Generator) -> list[str]:
    cluster = random.integers(CLUSTERS)
    return [f"{cluster}-{member}" for member in random.permutation(EACH)[:20]]


def popular(random: np.random.Generator) -> list[str]:
    odds = 1 / np.arange(1, 201)
    return [f"{row % CLUSTERS}-{row // CLUSTERS}" for row in random.choice(200, 20, replace=False, p=odds / odds.sum())]


@pytest.fixture
def store(far: Shop, tmp_path) -> Iterator[Callable[[list[mmrec.Event]], mmrec.Store]]:
    """Open the store of clusters with a log of its own."""
    opened = []

    def make(events: list[mmrec.Event]) -> mmrec.Store:
        root = far.engine.status()["store"]
        engine = mmrec.open(root, encoders=[Clustered()], events=f"sqlite:///{tmp_path}/{len(opened)}.db")
        engine.record(events)
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


@pytest.mark.parametrize("log", [one_cluster, popular, None], ids=["contents", "popularity", "two users"])
def test_who_loves_and_who_hates_the_same_items_get_other_lists(far, store, log) -> None:
    others = crowd(log) if log else []
    engine = store([*others, *happened("lover", THREE, 5.0, 20_000), *happened("hater", THREE, 1.0, 20_000)])
    near = {hit.id for item in THREE for hit in engine.similar(item, k=10).hits}
    lover, hater = (engine.recommend(user, k=20, explain=True) for user in ("lover", "hater"))
    assert not near & {hit.id for hit in hater.hits}
    assert not any(hit.because for hit in hater.hits)
    assert nearness(engine, lover) > nearness(engine, hater) + 0.02
    if log is not popular:
        assert far.clusters_of(lover)[0] == 3
        assert lover.hits[0].because
    # Nothing but the stars tells them apart: without values both are users who met these items.
    engine.record([*happened("one", THREE, None, 20_000), *happened("other", THREE, None, 20_000)])
    assert [hit.id for hit in engine.recommend("one").hits] == [hit.id for hit in engine.recommend("other").hits]


def nearness(engine: mmrec.Store, answer: mmrec.Recommendations) -> float:
    return float((engine.vectors([hit.id for hit in answer.hits]) @ engine.vectors(THREE).T).mean())


def test_no_pick_is_explained_by_an_item_that_was_rated_low(store) -> None:
    engine = store([*crowd(one_cluster), *happened("mixed", ["3-0", "3-1"], 5.0, 20_000)])
    engine.record([*happened("mixed", ["3-2", "3-3"], 2.0, 20_001), *happened("mixed", ["3-4"], 4.0, 20_002)])
    told = engine.recommend("mixed", k=40, explain=True)
    named = {reason.id for hit in told.hits for reason in hit.because}
    assert named
    assert named <= {"3-0", "3-1", "3-4"}


def test_lists_fade_from_popularity_as_far_as_the_log_says(far, store) -> None:
    noise, everything = store(crowd(popular)), store(crowd(one_cluster))
    for engine in (noise, everything):
        engine.record(happened("new", THREE, 5.0, 20_000))
    assert noise.recommend("new").popular_share >= 0.9
    assert everything.recommend("new").popular_share <= 0.3
    assert far.clusters_of(everything.recommend("new"))[:5] == [3] * 5
    # Too short a log to tell: the weight of what was done decides.
    short = store(happened("new", THREE, 5.0, 20_000))
    assert short.recommend("new").popular_share == 0


def test_values_of_other_kinds_are_no_stars(store) -> None:
    watched = [*happened("long", THREE, 5000.0, 0, "view"), *happened("short", THREE, 1.0, 0, "view")]
    engine = store([*crowd(one_cluster), *watched])
    long, short = (engine.recommend(user, k=20) for user in ("long", "short"))
    assert [hit.id for hit in long.hits] == [hit.id for hit in short.hits]
