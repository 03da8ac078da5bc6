"""Where answers stand among a gallery, against an oracle that goes through items one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning import questions
from mmrec.finetuning.questions import RetrievalQuestions, RetrievalRanks, pooled

sizes = st.tuples(st.integers(0, 10_000), st.integers(2, 8), st.integers(0, 6), st.integers(0, 2))


def asking(seed, things, count, spaces):
    """Items with several rows each, questions with several answers, vectors whose products are exact and often tied."""
    random = np.random.default_rng(seed)
    items = np.sort(random.choice(30, things, replace=False))
    gallery = np.repeat(items, random.integers(1, 4, len(items)))
    outs, answers = [], []
    for _ in range(count):
        out = int(random.choice(items)) if random.random() < 0.5 else -1
        able = items[items != out]
        answers.append(random.permutation(able)[: random.integers(1, len(able) + 1)])
        outs.append(out)
    out = np.array(outs, dtype=np.int64)
    rows = random.integers(0, 5, count)
    asked = RetrievalQuestions("a -> b", rows, tuple(answers), gallery, out, random.integers(0, 3, count))
    blocks = [
        tuple(random.integers(-1, 2, (size, 3)).astype(np.float32) for size in (5, len(gallery))) for _ in range(spaces)
    ]
    return asked, blocks


def standing(asked, blocks, number):
    def score(item):
        rows = np.flatnonzero(asked.gallery == item)
        query = asked.queries[number]
        return max(sum(float(asks[query] @ gives[row]) for asks, gives in blocks) for row in rows)

    scores = {item: score(item) for item in set(asked.gallery.tolist()) - {int(asked.excluded[number])}}
    answers = asked.answers[number].tolist()
    best = max(scores[item] for item in answers)
    wrong = [value for item, value in scores.items() if item not in answers]
    return sum(value > best for value in wrong), sum(value == best for value in wrong) + 1


@settings(deadline=None)
@given(sizes)
def test_answers_stand_where_they_do_one_by_one(size):
    asked, blocks = asking(*size)
    found = asked.rank(blocks)
    expected = [standing(asked, blocks, number) for number in range(len(asked))]
    assert list(zip(found.above.tolist(), found.tied.tolist(), strict=True)) == expected
    assert np.array_equal(found.units, asked.units)
    if not blocks:  # nothing to compare by is chance
        assert not found.above.any()


@settings(deadline=None)
@given(sizes, st.integers(1, 40))
def test_how_much_is_in_memory_changes_nothing(size, room):
    asked, blocks = asking(*size)
    whole = asked.rank(blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "_SCORES", room)
        parts = asked.rank(blocks)
    assert np.array_equal(whole.above, parts.above)
    assert np.array_equal(whole.tied, parts.tied)


standings = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 3)), max_size=8)


def found(some):
    above, tied, units = (np.array([line[at] for line in some], dtype=np.int64) for at in range(3))
    return RetrievalRanks(above, tied, units)


@settings(deadline=None)
@given(standings)
def test_metrics_are_means_over_all_orders_of_what_is_tied(some):
    one = found(some)
    ranks = [range(above + 1, above + tied + 1) for above, tied, _ in some]
    for name, gain in {
        "r@1": lambda rank: rank <= 1,
        "r@10": lambda rank: rank <= 10,
        "mrr": lambda rank: 1 / rank,
    }.items():
        np.testing.assert_allclose(one.metric(name), [np.mean([gain(rank) for rank in some]) for some in ranks])
    middle = [np.mean(list(some)) for some in ranks]
    assert one.median == np.median(middle) if some else np.isnan(one.median)


@settings(deadline=None)
@given(standings, standings)
def test_kinds_of_questions_are_put_together(some, others):
    both = pooled([found(some), found(others)])
    assert both.above.tolist() == [line[0] for line in some + others]
    assert both.tied.tolist() == [line[1] for line in some + others]
    assert both.units.tolist() == [line[2] for line in some + others]


def test_a_constant_model_finds_by_chance():
    count = 40
    everyone = np.arange(count)
    asked = RetrievalQuestions(
        "x", everyone, tuple(np.array([(at + 1) % count]) for at in everyone), everyone, everyone, everyone
    )
    same = np.ones((count, 2), dtype=np.float32)
    found_ = asked.rank([(same, same)])
    np.testing.assert_allclose(found_.metric("r@10"), 10 / (count - 1))
    np.testing.assert_allclose(found_.metric("r@1"), 1 / (count - 1))
