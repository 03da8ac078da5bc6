"""Tasks: nothing of what is held out, and nothing after the cutoff, is in what is learned; all of it is asked for."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from finetuning.made_histories import histories_of
from finetuning.towers import AUDIO, IMAGE, TEXT, named, paired
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_store import index

from mmrec.errors import UsageError
from mmrec.events.event import Event
from mmrec.events.log import open_log
from mmrec.finetuning.coengage import co_occurrence, ppmi_vectors
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.material import TrainingData
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.tasks import co_engaged, make_task
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout

COUNT = 12
NONE = Layout(Path("none"))
ROWS = np.arange(100, 100 + COUNT)
events = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(ROWS.tolist()), st.integers(0, 1000)), min_size=20, max_size=80
)
contents = st.lists(st.integers(0, 15), min_size=COUNT, max_size=COUNT)


def catalog(numbers):
    """Items of one text each, some of them of the same; the number 15 is no text at all."""
    return Corpus.of(ROWS.tolist(), {TEXT: [[] if at == 15 else [named(TEXT, f"{at:02}")] for at in numbers]})


def neighbours(histories, positive, window):
    """Pairs of places of events: the same person's, and not too far apart."""
    for person in range(len(histories)):
        span = histories.span(person)
        told = [at for at in range(span.start, span.stop) if positive[at]]
        for place, one in enumerate(told):
            yield from ((one, other, person) for other in told[place + 1 : place + 1 + window])


@settings(deadline=None, max_examples=60)
@given(events, contents, st.integers(0, 4), st.floats(0.3, 0.95), st.integers(1, 5))
def test_what_is_learned_is_before_the_cutoff_and_of_items_that_are_not_held_out(some, numbers, seed, before, window):
    corpus, histories = catalog(numbers), histories_of(some)
    config = FinetuneConfig(
        device="cpu",
        seed=seed,
        coengage={"before": before, "window": window},
        held_out={"validation": 0.2, "test": 0.2},
    )
    positive = np.ones(len(histories.times), dtype=bool)
    try:
        task = co_engaged(corpus, histories, positive, config)
    except UsageError:
        assume(False)
    cutoff = np.quantile(histories.times, before)
    early = histories.times < cutoff
    places = histories.items - ROWS[0]
    train = set(task.train.tolist())

    def pairs(when):
        return [
            (int(places[one]), int(places[other]), person)
            for one, other, person in neighbours(histories, positive & when, window)
            if places[one] != places[other] and numbers[places[one]] != 15 and numbers[places[other]] != 15
        ]

    learned = sorted((one, other) for one, other, _ in pairs(early) if {one, other} <= train)
    objective = task.objective
    assert sorted(zip(objective.left.tolist(), objective.right.tolist(), strict=True)) == learned
    for step in objective.steps(1):
        texts = {corpus.contents[TEXT].of(item)[0] for item in train}
        assert set(step.contents[TEXT].tolist()) <= texts
    held = set(range(COUNT)) - train
    assert all(numbers[one] != numbers[other] for one in train for other in held if numbers[one] != 15)
    assert task.counts["pairs"] == len(learned)

    def asked(questions, name):
        return sorted(
            (query, int(answer[0]), unit)
            for one in questions.kinds
            if one.name == name and one.modalities is None
            for query, answer, unit in zip(one.queries.tolist(), one.answers, one.units.tolist(), strict=True)
        )

    validation = asked(task.validation, "the next item")
    test = asked(task.test, "the next item, one held out")
    assert {one for one, _, _ in validation} <= train
    assert not {item for _, item, _ in validation} & train
    assert not {item for _, item, _ in test} & (train | {item for _, item, _ in validation})
    galleries = {one.name: set(one.gallery.tolist()) for one in (*task.validation.kinds, *task.test.kinds)}
    rivals = {item for item in held if numbers[item] != 15}
    assert all(galleries[name] == rivals for name in galleries if name != "the next item, later")
    assert galleries.get("the next item, later", set(range(COUNT))) == set(range(COUNT))
    assert set(validation) | set(test) <= {pair for pair in pairs(early) if pair[1] in held}
    assert asked(task.test, "the next item, later") == sorted(pairs(~early))
    assert task.whole_items


@settings(deadline=None, max_examples=60)
@given(events, contents, st.integers(0, 4), st.floats(0.3, 0.95))
def test_heads_in_closed_form_are_taught_by_the_same_events(some, numbers, seed, before):
    corpus, histories = catalog(numbers), histories_of(some)
    held = {"validation": 0.2, "test": 0.2}
    config = FinetuneConfig(device="cpu", seed=seed, coengage={"before": before}, held_out=held)
    try:
        task = co_engaged(corpus, histories, np.ones(len(histories.times), dtype=bool), config)
    except UsageError:
        assume(False)
    places = histories.items - ROWS[0]
    placed = np.array([number != 15 for number in numbers])[places]
    own = (histories.times < np.quantile(histories.times, before)) & np.isin(places, task.train) & placed
    mass = co_occurrence(histories.owners[own].astype(np.int64), places[own], histories.times[own], COUNT)
    try:
        expected = ppmi_vectors(mass, config.coengage.factors)
    except UsageError:
        with pytest.raises(UsageError, match="nothing to learn from"):
            task.targets()
        return
    np.testing.assert_array_equal(task.targets(), expected)
    assert not expected[np.setdiff1d(np.arange(COUNT), task.train)].any()


def data(corpus, vectors, labels=()):
    return TrainingData(corpus, {kind: VectorSamples(some) for kind, some in vectors.items()}, labels, {}, {})


def test_align_learns_from_training_items_and_asks_both_ways():
    corpus, vectors = paired(40, duplicates=6, modalities=(TEXT, IMAGE, AUDIO))
    task = make_task("align", NONE, data(corpus, vectors), FinetuneConfig(device="cpu"), None)
    assert not task.whole_items
    learned = np.unique(np.concatenate(list(task.objective.items.values())))
    assert np.array_equal(learned, task.train)
    assert sum(task.counts[part] for part in ("trained on", "validation", "test")) == 40
    own = {
        kind: {place for item in task.train.tolist() for place in corpus.contents[kind].of(item).tolist()}
        for kind in vectors
    }
    for step in task.objective.steps(1):
        assert all(set(places.tolist()) <= own[kind] for kind, places in step.contents.items())
    for questions in (task.validation, task.test):
        assert [asked.name for asked in questions.kinds] == [
            f"{one} -> {other}"
            for pair in ((TEXT, IMAGE), (TEXT, AUDIO), (IMAGE, AUDIO))
            for one, other in (pair, pair[::-1])
        ]
        for asked in questions.kinds:
            asks, gives = asked.modalities
            assert not set(asked.queries.tolist()) & own[asks]
            # What was learned from is not among the answers either: it moved, and to wherever.
            rivals = corpus.contents[gives]
            assert not {place for item in asked.gallery.tolist() for place in rivals.of(item).tolist()} & own[gives]


def test_labels_are_asked_for_with_what_is_held_out_and_answered_by_all():
    corpus, vectors = paired(40)
    labels = [None if at % 10 == 9 else ("even", "odd")[at % 2] for at in range(40)]
    task = make_task("label", NONE, data(corpus, vectors, labels), FinetuneConfig(device="cpu"), None)
    assert task.counts["labels"] == 2
    assert task.metric == "r@1"
    given_ = [at for at in range(40) if labels[at] is not None]
    assert set(task.objective.items.tolist()) == set(task.train.tolist()) <= set(given_)
    (asked,) = task.test.kinds
    assert asked.modalities is None
    for item, right in zip(asked.queries.tolist(), asked.answers, strict=True):
        assert item not in task.train
        assert right.tolist() == [at for at in given_ if labels[at] == labels[item] and at != item]


def test_labels_of_one_item_alone_are_neither_learned_nor_asked_for():
    corpus, vectors = paired(30)
    labels = ["a", "b"] * 10 + [f"own {at}" for at in range(10)]
    for seed in range(10):
        config = FinetuneConfig(device="cpu", seed=seed)
        task = make_task("label", NONE, data(corpus, vectors, labels), config, None)
        assert sum(task.counts[part] for part in ("trained on", "validation", "test")) == 20
        assert len(task.test) == task.counts["test"] == 2


def test_a_verdict_without_questions_is_refused_before_anything_is_trained(tmp_path):
    layout = Layout(tmp_path / "store")
    index(layout)
    log = open_log(layout.events)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    # All goes on between four of sixty items, and none of them is held out by this seed.
    log.append([Event(f"p{who}", f"i{at}", "like", start + timedelta(days=at)) for who in range(9) for at in range(4)])
    rows = {
        name: row
        for batch in ItemTable(layout.items).id_rows()
        for name, row in zip(*batch.select(["id", "_rowid"]).to_pydict().values(), strict=True)
    }
    names = list(rows)
    corpus = Corpus.of(list(rows.values()), {TEXT: [[named(TEXT, name)] for name in names]})
    vectors = {TEXT: np.eye(len(names), dtype=np.float32)}

    def task(seed):
        settings = FinetuneConfig(device="cpu", seed=seed, coengage={"before": 0.99})
        return make_task("coengage", layout, data(corpus, vectors), settings, log)

    said = []
    for seed in range(12):
        try:
            assert len(task(seed).test)
        except UsageError as error:
            said.append(str(error))
    log.close()
    assert said
    assert all("Nothing can be asked of the 6 items that are held out" in one for one in said)
    assert len(said) < 12


def test_what_was_rated_low_goes_together_with_nothing(tmp_path):
    layout = Layout(tmp_path / "store")
    index(layout)
    log, start = open_log(layout.events), datetime(2026, 1, 1, tzinfo=UTC)
    # Everybody takes an item rated 5, one rated 1, and the next one rated 5.
    log.append(
        [
            Event(f"p{who}", f"i{(3 * who + at) % 60}", "rate", start + timedelta(minutes=60 * who + at), stars)
            for who in range(60)
            for at, stars in enumerate((5.0, 1.0, 5.0))
        ]
    )
    batches = [batch.select(["id", "_rowid"]).to_pydict() for batch in ItemTable(layout.items).id_rows()]
    rows = {name: row for one in batches for name, row in zip(one["id"], one["_rowid"], strict=True)}
    corpus = Corpus.of(list(rows.values()), {TEXT: [[named(TEXT, name)] for name in rows]})
    vectors = {TEXT: np.eye(len(rows), dtype=np.float32)}
    task = make_task("coengage", layout, data(corpus, vectors), FinetuneConfig(device="cpu"), log)
    log.close()
    pairs = set(zip(*(np.array(list(rows))[side].tolist() for side in task.pairs_or_labels), strict=True))
    assert pairs
    assert all(int(two[1:]) == (int(one[1:]) + 2) % 60 and int(one[1:]) % 3 == 0 for one, two in pairs)


def test_co_engagement_without_events_says_where_they_come_from():
    corpus, vectors = paired(20)
    with pytest.raises(UsageError, match="mmrec events import STORE"):
        make_task("coengage", NONE, data(corpus, vectors), FinetuneConfig(device="cpu"), None)
    nobody = histories_of([])
    with pytest.raises(UsageError, match="nothing to learn from"):
        co_engaged(corpus, nobody, np.empty(0, dtype=bool), FinetuneConfig(device="cpu"))


def test_what_learns_nothing_scores_what_chance_does():
    corpus, vectors = paired(40)
    task = make_task("align", NONE, data(corpus, vectors), FinetuneConfig(device="cpu"), None)
    same = {kind: np.ones((len(own), 3), dtype=np.float32) for kind, own in corpus.contents.items()}
    for found in task.test.rank([same]).values():
        rivals = 40 - task.counts["trained on"]
        np.testing.assert_allclose(found.metric("r@1"), 1 / rivals)
