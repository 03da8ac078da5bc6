"""Ratings read as likes and dislikes, beside a slow oracle."""

import math

import numpy as np
import pyarrow as pa
import pytest
from events.made import arrays, at, events
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import Event
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.popularity import LogRatings
from mmrec.events.ratings import MIN_REASON_STRENGTH, read_ratings, strengths_of, strengths_of_user
from mmrec.events.splits import leave_one_out, time_split
from mmrec.events.stats import rating_stats

KINDS = Kinds()


def rated(user: str, *stars: float, start: int = 0, kind: str = "rate", items: str = "x") -> list[Event]:
    return [Event(user, f"{items}{at_}", kind, at(start + at_), star) for at_, star in enumerate(stars)]


def crowd() -> list[Event]:
    """Twenty users who use the scale as most do, on twenty items."""
    usual = [3, 4, 5, 4, 3, 2, 4, 4, 5, 3]
    return [one for n in range(20) for one in rated(f"u{n:02}", *(usual[(n + at_) % 10] for at_ in range(20)))]


def strengths(some: list[Event], kinds: Kinds = KINDS) -> dict[str, list[float]]:
    ordered = arrays(sorted(some, key=lambda one: (one.user, one.time)))
    found = strengths_of(ordered, read_ratings(ordered, kinds))
    return {user: found[ordered.users == place].tolist() for place, user in enumerate(ordered.user_ids.to_pylist())}


def test_the_same_items_rated_worst_and_best_are_dislikes_and_likes() -> None:
    found = strengths([*crowd(), *rated("lover", 5, 5, 5), *rated("hater", 1, 1, 1), *rated("so", 3, 4, 2)])
    assert min(found["lover"]) > 1.2
    assert max(found["hater"]) < -1
    assert found["so"][1] > MIN_REASON_STRENGTH > found["so"][2]
    # With so many ratings the user's own mean says something, and yet the ends of the scale stay what they are.
    found = strengths([*crowd(), *rated("lenient", *[5] * 50, 4), *rated("harsh", *[1] * 50, 2), *rated("usual", 4, 2)])
    assert found["lenient"][-1] < found["usual"][0]
    assert found["harsh"][-1] > found["usual"][1]
    assert max(found["harsh"][:50]) < 0
    assert min(found["lenient"][:50]) > 1


@given(some=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_strengths_are_those_of_the_definition(some) -> None:
    log = [Event(f"u{user}", f"i{item}", "rate", at(minute), stars) for minute, (user, item, stars) in enumerate(some)]
    ones = len({stars for *_, stars in some}) == 1 and some[0][2] == 1
    mean = (sum(stars for *_, stars in some) + 10 * (1 if ones else 3)) / (len(some) + 10)
    shift = {}
    for item in range(5):
        own = [stars - mean for _, one, stars in some if one == item]
        shift[item] = sum(own) / (len(own) + 10)
    expected: dict[str, list[float]] = {}
    seen: dict[int, list[float]] = {}
    for user, item, stars in some:
        seen.setdefault(user, []).append(stars - mean - shift[item])
        lenience = sum(seen[user]) / (len(seen[user]) + 10)
        z = stars - mean - min(1, max(-1, shift[item] + lenience))
        strength = 1 + z if z > -1 else 2 * (1 + z)
        expected.setdefault(f"u{user}", []).append(1 if ones else min(2, max(-2, strength)))
    found = strengths(log)
    assert found.keys() == expected.keys()
    for user, own in expected.items():
        assert found[user] == pytest.approx(own, abs=1e-5)


def test_only_ratings_are_read_and_other_scales_are_understood() -> None:
    watched = [Event("a", f"v{n}", "view", at(n), 300.0 * n) for n in range(9)]
    found = strengths([*crowd(), *watched])
    assert all(math.isnan(one) for one in found["a"])
    tens = strengths([*rated("a", *range(1, 11)), *rated("b", *[6, 7, 8] * 4)])["a"]
    assert tens[0] < tens[1] < 0
    assert tens[2] < MIN_REASON_STRENGTH < 1 < tens[5] < tens[9]
    thumbs = strengths([*rated("a", 1, -1, 1, 1), *rated("b", *[1, 1, 1, -1] * 4)])["a"]
    assert thumbs[1] < 0
    assert min(thumbs[0], *thumbs[2:]) > 1
    # Stars of five, though nobody gave fewer than four.
    assert min(strengths([*rated("a", 4, 5, 4), *rated("b", *[4, 5] * 9)])["a"]) > 0
    assert strengths(rated("a", 1, 1, 1))["a"] == [1, 1, 1]


def test_a_kinds_file_gives_a_threshold_or_ignores_values(tmp_path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text('[weights]\nstars = 2\n[ratings]\nrate = "ignored"\nstars = 3.5\n')
    kinds = load_kinds(path)
    assert dict(kinds.ratings) == {"stars": 3.5}
    log = arrays([Event("a", "x", "rate", at(0), 1), Event("a", "y", "rate", at(1), 5)])
    assert np.isnan(strengths_of(log, read_ratings(log, kinds))).all()
    path.write_text("[ratings]\nrate = 3.5\n")
    log = crowd()
    assert {tuple(sorted(set(own))) for own in strengths(log, load_kinds(path)).values()} == {(-2, 2)}
    for wrong in (
        '[ratings]\nrate = "high"\n',
        "[ratings]\nnothing = 3\n",
        "ratings = 3\n",
        "[ratings]\nrate = true\n",
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="ratings"):
            load_kinds(path)


def test_a_log_is_read_as_its_events_are_and_a_person_as_in_a_history(log) -> None:
    every = [*crowd(), *rated("lover", 5, 5, 5), *rated("late", 1, 2, start=900, items="y")]
    kept = LogRatings(KINDS, max_age_seconds=0)
    log.append(every[:200])
    kept.read(log)
    log.append(every[200:])
    events = arrays(every)
    there, expected = kept.read(log)["rate"], read_ratings(events, KINDS)["rate"]
    assert (there.mean, there.step) == pytest.approx((expected.mean, expected.step))
    assert {item: there.shift(item) for item in ("x0", "y1", "new")} == pytest.approx(
        {item: expected.shift(item) for item in ("x0", "y1", "new")}
    )
    mine = strengths_of_user(["x0", "x1", "x2"], ["rate"] * 3, [5.0, 5.0, 5.0], kept.read(log))
    assert mine.tolist() == pytest.approx(strengths(every)["lover"])
    log.forget("lover")
    assert kept.read(log)["rate"].items["x0"][0] == expected.items["x0"][0] - 1
    (told,) = rating_stats(log, KINDS)
    assert (told.kind, told.ratings, told.low, told.high) == ("rate", 402, 1, 5)
    assert told.likes + told.dislikes == 402
    assert 2 <= told.dislikes < 80


@given(given_events=st.lists(events, max_size=40), cut=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_low_ratings_are_no_targets_and_later_events_change_nothing_before(given_events, cut) -> None:
    known = KnownItems.numbered([f"i{number}" for number in range(6)])
    now = 2_000_000_000_000_000
    for split in (
        time_split(arrays(given_events), known, int(at(cut).timestamp() * 1e6), Cleaning(), now),
        leave_one_out(histories(given_events, known, now)),
    ):
        if split.live.strengths is not None:
            read = split.live.strengths[split.targets]
            assert (np.isnan(read) | (read > 0)).all()
        assert (split.live.weights(KINDS.weights)[split.targets] > 0).all()
    early = [one for one in given_events if one.time < at(cut)]
    one, two = (
        time_split(arrays(some), known, int(at(cut).timestamp() * 1e6), Cleaning(), now)
        for some in (given_events, early)
    )
    assert one.train.digest() == two.train.digest()


def histories(given_events, known, now) -> Histories:
    cleaned = clean(arrays(given_events), Cleaning(), known, now)[0]
    return Histories.of(cleaned, known, read_ratings(cleaned, KINDS))


def test_histories_without_ratings_are_as_before() -> None:
    known = KnownItems.numbered(["i0", "i1"])
    watched = [Event("a", "i0", "view", at(0), 7.0), Event("a", "i1", "hide", at(1))]
    made = histories(watched, known, 2_000_000_000_000_000)
    assert made.strengths is None
    assert made.weights(KINDS.weights).tolist() == [1, -8]
    assert made.user_ids.equals(pa.array(["a"]))
