"""Recorded events: they count at once, over processes, and leave no trace of people but in the log."""

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import mmrec
from mmrec.errors import UsageError
from mmrec.events.kinds import DEFAULT_WEIGHTS, Kinds
from mmrec.events.log import open_log
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality

NOW = datetime.now(UTC)
RECORDER = """
import sys
from datetime import UTC, datetime
import mmrec
engine = mmrec.open(sys.argv[1], encoders=[])
events = [mmrec.Event(sys.argv[2], item, kind, datetime.now(UTC)) for item, kind in zip(sys.argv[3::2], sys.argv[4::2])]
print(engine.record(events).added)
"""


def seen_by(user: str, *items: str, kind: str = "view") -> list[mmrec.Event]:
    return [mmrec.Event(user, item, kind, NOW + timedelta(seconds=at)) for at, item in enumerate(items)]


def elsewhere(root, user: str, *done: str) -> None:
    command = [sys.executable, "-c", RECORDER, str(root), user, *done]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) == len(done) // 2


@pytest.fixture
def root(shop):
    return shop.engine.status()["store"]


def test_a_store_without_a_log_recommends_and_makes_none(shop, root, tmp_path) -> None:
    assert shop.engine.recommend("ada").popular_share == 1
    assert shop.engine.recommend("ada", history=["ph1"]).hits
    assert not (tmp_path / "shop" / "events.db").exists()


def test_events_recorded_by_another_process_are_in_the_next_list(shop, root) -> None:
    engine = shop.engine
    engine.record(seen_by("ada", "ph1", "ph2", "ph3"))
    before = engine.recommend("ada")
    assert shop.topics_of(before)[0] == "phones"
    elsewhere(root, "ada", "gd1", "purchase", "gd3", "purchase", "gd8", "purchase", before.hits[0].id, "hide")
    after = engine.recommend("ada")
    assert after.events == 7
    assert shop.topics_of(after)[:5] == ["garden tools"] * 5
    assert before.hits[0].id not in {hit.id for hit in engine.recommend("ada", k=100, exclude_seen=False).hits}


def test_the_first_event_ever_may_come_from_another_process(shop, root) -> None:
    assert shop.engine.recommend("eve").events == 0
    elsewhere(root, "eve", "gd1", "like")
    found = shop.engine.recommend("eve")
    assert (found.events, found.popular_share) == (1, 0)
    assert "garden tools" in shop.topics_of(found)[:2]


def test_what_is_new_is_recommended_at_the_next_call(shop) -> None:
    engine = shop.engine
    engine.record(seen_by("ada", "ph1", "ph2", "ph3"))
    assert engine.recommend("ada").hits
    text = "New smartphone with 6.1 inch OLED display, 256 GB, dual camera, white"
    engine.upsert([Item("new", (Field(Modality.TEXT, "text", text=text),), {"topic": "phones"}, 1)])
    assert "new" in [hit.id for hit in engine.recommend("ada").hits[:5]]
    engine.delete("new")
    assert "new" not in [hit.id for hit in engine.recommend("ada", k=100).hits]


def test_unknown_ids_are_reported_and_fail_nothing(shop) -> None:
    engine = shop.engine
    engine.record(seen_by("ada", "gone-1", "ph1", "ph2", "ph3", "gone-2", "gone-1"))
    found = engine.recommend("ada", history=["odd'id", "gone-3"], explain=True)
    assert found.unknown == ("gone-1", "gone-2", "odd'id", "gone-3")
    assert found.events == 3
    assert shop.topics_of(found)[:2] == ["phones"] * 2
    assert engine.recommend(history=["nothing", "is", "known"]).popular_share == 1
    assert len(engine.recommend("ada", k=1000).hits) == len(shop.topics) - 3


def test_seen_items_are_left_out_or_not(shop) -> None:
    engine = shop.engine
    engine.record(seen_by("ada", "ph1", "ph2", "ph3"))
    assert not {"ph1", "ph2", "ph3"} & {hit.id for hit in engine.recommend("ada", k=100).hits}
    assert {"ph1", "ph2", "ph3"} <= {hit.id for hit in engine.recommend("ada", exclude_seen=False).hits}


def test_filters_hold_for_every_source(shop) -> None:
    engine = shop.engine
    engine.record([*seen_by("ada", "ph1"), *seen_by("bob", "kt1", "cl1", "gd1", kind="like")])
    for asked in ({"user": "ada"}, {"user": "nobody"}, {"text": "a phone"}, {"history": ["ph1", "gd1"]}):
        found = engine.recommend(**asked, where="topic in ('kitchen', 'toys')", k=20)
        assert set(shop.topics_of(found)) == {"kitchen", "toys"}, asked
        assert engine.recommend(**asked, where="topic = 'nothing'").hits == ()
    with pytest.raises(UsageError, match=r"Columns: id \(texts\), topic"):
        engine.recommend("ada", where="price < 5")


def test_popular_items_lead_for_strangers_and_fade_as_events_come(shop) -> None:
    engine = shop.engine
    for fan in range(5):
        engine.record(seen_by(f"fan{fan}", "ty1", "kt1", "cl1", kind="like"))
    engine.record(seen_by("one", "ph1"))
    engine.record(seen_by("three", "ph1", "ph2", "tb1"))
    stranger = engine.recommend("nobody")
    assert {hit.id for hit in stranger.hits[:3]} == {"ty1", "kt1", "cl1"}
    assert {hit.source for hit in stranger.hits} == {"popular"}
    one, three = engine.recommend("one"), engine.recommend("three")
    assert stranger.popular_share == 1 > one.popular_share > three.popular_share == 0
    assert {hit.source for hit in one.hits} == {"popular", "history"}
    assert {hit.source for hit in three.hits} == {"history"}


def test_what_was_popular_long_ago_gives_way(shop) -> None:
    engine = shop.engine
    past = NOW - timedelta(days=60)
    engine.record([mmrec.Event(f"old{n}", "kt1", "like", past) for n in range(20)])
    engine.record([mmrec.Event(f"new{n}", "ty1", "like", NOW) for n in range(2)])
    engine.record([mmrec.Event(f"odd{n}", "cl1", "hide", NOW) for n in range(9)])
    found = engine.recommend("nobody", k=60)
    ids = [hit.id for hit in found.hits]
    assert ids[0] == "ty1"
    assert found.hits[ids.index("kt1")].score > 0
    assert found.hits[ids.index("cl1")].score == 0


def test_an_explanation_names_the_past_and_the_modality(shop) -> None:
    engine = shop.engine
    engine.record([*seen_by("ada", "ph1", "gd1", kind="like"), *seen_by("ada", "lp1", kind="hide")])
    found = engine.recommend("ada", explain=True)
    for hit in found.hits:
        assert hit.because
        assert {one.id for one in hit.because} <= {"ph1", "gd1"}
        cosines = [one.similarity for one in hit.because]
        assert cosines == sorted(cosines, reverse=True)
        for one in hit.because:
            assert one.kind == "like"
            assert set(one.shares) == {"text"}
            assert sum(one.shares.values()) == pytest.approx(one.similarity)
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-3)
    phone = next(hit for hit in found.hits if shop.topics[hit.id] == "phones")
    assert phone.because[0].id == "ph1"
    assert all(hit.because == () for hit in engine.recommend("ada").hits)


def test_no_person_is_written_anywhere_but_in_the_log(shop, tmp_path) -> None:
    engine = shop.engine
    name = "person-with-a-telling-name"
    engine.record(seen_by(name, "ph1", "ph2"))
    engine.recommend(name, history=["gd1"], text="a garden", explain=True)
    holding = [
        path.name for path in (tmp_path / "shop").rglob("*") if path.is_file() and name.encode() in path.read_bytes()
    ]
    assert holding
    assert all(found.startswith("events.db") for found in holding)
    assert len(engine.recommend(name).hits) == 10


@pytest.mark.parametrize(
    "asked",
    [
        {"k": 0},
        {"diversity": 1.1},
        {"diversity": float("nan")},
        {"user": " "},
        {"text": ""},
        {"history": "ph1"},
        {"history": [("ph1", "adore")]},
    ],
)
def test_what_cannot_be_meant_is_refused(catalogs, asked) -> None:
    with pytest.raises(UsageError):
        catalogs("shop").engine.recommend(**asked)


def test_events_without_a_weight_are_refused(shop) -> None:
    with pytest.raises(UsageError, match="has no weight"):
        shop.engine.record([mmrec.Event("ada", "ph1", "adore", NOW)])
    assert shop.engine.recommend("ada").events == 0


def test_kinds_of_your_own_count_as_you_weigh_them(shop, root) -> None:
    kinds = Kinds({**DEFAULT_WEIGHTS, "adore": 9.0, "loathe": -9.0})
    with closing(mmrec.open(root, encoders=[], kinds=kinds)) as engine:
        engine.record([*seen_by("ada", "ph1", kind="adore"), *seen_by("ada", "ph2", kind="loathe")])
        found = engine.recommend("ada", history=[("gd1", "adore")], k=100, exclude_seen=False)
        ids = [hit.id for hit in found.hits]
        assert {"ph1", "gd1"} <= set(ids[:4])
        assert "ph2" not in ids


def test_who_is_forgotten_is_a_stranger(shop, root) -> None:
    engine = shop.engine
    engine.record(seen_by("ada", "ph1", "ph2", "ph3"))
    assert engine.recommend("ada").events == 3
    with closing(open_log(Layout(Path(root)).events)) as log:
        assert log.forget("ada") == 3
    found = engine.recommend("ada", k=100, exclude_seen=False)
    assert (found.events, found.popular_share, len(found.hits)) == (0, 1, len(shop.topics))
