"""The verdict: its word is what the interval says, chance is no help, and it says so where nobody can tell."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.evaluation.bootstrap import compare
from mmrec.finetuning.questions import RetrievalRanks
from mmrec.finetuning.verdict import judge, read_verdict, write_verdict


def found(above, units=None, tied=None):
    above = np.array(above, dtype=np.int64)
    tied = np.ones_like(above) if tied is None else np.array(tied, dtype=np.int64)
    return RetrievalRanks(above, tied, np.arange(len(above)) if units is None else np.array(units, dtype=np.int64))


NEAR, FAR = [0] * 40, [50] * 40


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [(FAR, NEAR, "helped"), (NEAR, FAR, "hurt"), (NEAR, NEAR, "no difference"), (FAR, FAR, "no difference")],
)
def test_a_word_and_its_sentence(before, after, word):
    verdict = judge({"a -> b": found(before)}, {"a -> b": found(after)})
    assert verdict.word == word
    old, new = (float(np.mean(np.array(some) < 10)) for some in (before, after))
    assert f"R@10 on 40 held-out questions was {old:.3f} before and {new:.3f} after" in verdict.sentence
    assert f"difference {new - old:+.3f}, 95% interval" in verdict.sentence
    assert [line.metric for line in verdict.lines] == ["r@1", "r@10", "mrr", "median"]
    assert {line.asked for line in verdict.lines} == {"a -> b"}
    assert verdict.metric == "r@10"


standings = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=25)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(standings, standings)
def test_it_is_judged_by_all_questions_together_with_what_belongs_together_drawn_together(some, others):
    sides = [
        {name: found([line[at] for line in lines], [line[2] for line in lines]) for name, lines in kinds}
        for at, kinds in ((0, [("x", some), ("y", others)]), (1, [("x", some), ("y", others)]))
    ]
    verdict = judge(*sides)
    old, new = (np.array([float(line[at] < 10) for line in some + others]) for at in (0, 1))
    units = np.array([line[2] for line in some + others])
    wanted = compare(("new", "old"), new[None], old[None], units).difference
    overall = next(line for line in verdict.lines if (line.asked, line.metric) == ("all", "r@10"))
    assert overall.questions == len(some) + len(others)
    np.testing.assert_array_equal(
        [overall.difference.mean, overall.difference.low, overall.difference.high],
        [wanted.mean, wanted.low, wanted.high],
    )
    assert verdict.word == ("helped" if wanted.low > 0 else "hurt" if wanted.high < 0 else "no difference")
    swapped = judge(sides[1], sides[0])
    opposite = {"helped": "hurt", "hurt": "helped", "no difference": "no difference"}
    assert swapped.word == opposite[verdict.word]


@pytest.mark.slow
def test_shuffled_answers_are_no_help_more_often_than_an_interval_of_95_says():
    random = np.random.default_rng(0)
    words = [
        judge({"x": found(random.integers(0, 40, 60))}, {"x": found(random.integers(0, 40, 60))}, seed=at).word
        for at in range(200)
    ]
    # 5% of 200 with three standard deviations.
    assert sum(word != "no difference" for word in words) <= 10 + 3 * 3.1


def test_questions_of_one_group_are_one_witness():
    """Twenty questions that stand or fall together do not make a gain of one group a certain one."""
    units = [0] * 20 + list(range(1, 11))
    before = found([50] * 30, units)
    after = found([0] * 20 + [50] * 10, units)
    assert judge({"x": before}, {"x": after}).word == "no difference"
    apart = judge({"x": found([50] * 30)}, {"x": found([0] * 20 + [50] * 10)})
    assert apart.word == "helped"


def test_one_kind_that_was_hurt_is_said_beside_what_helped():
    before = {"x": found(FAR * 3), "y": found(NEAR)}
    after = {"x": found(NEAR * 3), "y": found(FAR)}
    verdict = judge(before, after)
    assert verdict.word == "helped"
    assert verdict.sentence.endswith(" It hurt y.")
    assert {line.asked for line in verdict.lines} == {"x", "y", "all"}


def test_one_group_alone_cannot_tell():
    verdict = judge({"x": found(FAR, [3] * 40)}, {"x": found(NEAR, [3] * 40)})
    assert verdict.word == "no difference"
    assert "nan" not in verdict.sentence
    assert "one group" in verdict.sentence


def test_a_verdict_is_kept_beside_encoders(tmp_path):
    assert read_verdict(tmp_path) is None
    verdict = judge({"x": found(FAR)}, {"x": found(NEAR)})
    write_verdict(verdict, tmp_path)
    assert read_verdict(tmp_path) == ("helped", verdict.sentence)
    (path,) = tmp_path.iterdir()
    for damaged in ("", "[]", "{}", json.dumps({"word": "helped"}), "\x00"):
        path.write_text(damaged)
        assert read_verdict(tmp_path) is None
