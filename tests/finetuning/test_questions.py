"""Questions about held-out items, against loops over all of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import item_vectors
from mmrec.finetuning.questions import centred, cross_modal_questions, item_questions
from mmrec.types import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
PAIRS = ((TEXT, IMAGE), (TEXT, AUDIO))
COUNT = 6
names = st.lists(st.sampled_from([bytes([at]) for at in range(8)]), max_size=3, unique=True)
catalogs = st.lists(st.tuples(names, names), min_size=COUNT, max_size=COUNT)
parts = st.sets(st.integers(0, COUNT - 1)).map(lambda some: np.array(sorted(some), dtype=np.int64))


def made(catalog, seed=0):
    """Vectors of small whole numbers, so that sums are exact and ties are ties."""
    corpus = Corpus.of(list(range(COUNT)), {TEXT: [one for one, _ in catalog], IMAGE: [one for _, one in catalog]})
    random = np.random.default_rng(seed)
    spaces = [
        {kind: random.integers(-2, 3, (len(own), 3)).astype(np.float32) for kind, own in corpus.contents.items()}
        for _ in range(2)
    ]
    return corpus, spaces


def stands(corpus, spaces, query, asks, gives, answer, among=range(COUNT)):
    """How many items are above an answer, and level with it: an item is as near as its nearest content."""
    scores = {}
    for item in among:
        own = corpus.contents[gives].of(item).tolist()
        if own:
            scores[item] = max(
                sum(float(space[asks][query] @ space[gives][place]) for space in spaces) for place in own
            )
    best = scores.pop(answer)
    return sum(score > best for score in scores.values()), sum(score == best for score in scores.values()) + 1


@settings(deadline=None)
@given(catalogs, parts, parts, st.integers(0, 1000))
def test_each_content_of_a_held_out_item_asks_for_its_item_among_some(catalog, items, beside, seed):
    corpus, spaces = made(catalog, seed)
    groups = np.arange(100, 100 + COUNT)
    among = np.union1d(items, beside)
    questions = cross_modal_questions(corpus, PAIRS, items, groups, among)
    found = questions.rank(spaces)
    expected = {}
    for asks, gives in ((TEXT, IMAGE), (IMAGE, TEXT)):
        both = [item for item in items.tolist() if all(catalog[item])]
        lines = [
            (*stands(corpus, spaces, query, asks, gives, item, among.tolist()), groups[item])
            for item in both
            for query in corpus.contents[asks].of(item).tolist()
        ]
        if lines:
            expected[f"{asks} -> {gives}"] = lines
    assert found.keys() == expected.keys()
    for name, lines in expected.items():
        one = found[name]
        assert list(zip(one.above.tolist(), one.tied.tolist(), one.units.tolist(), strict=True)) == lines
    assert len(questions) == sum(len(lines) for lines in expected.values())


@settings(deadline=None)
@given(catalogs, parts)
def test_where_no_space_has_both_sides_the_answers_are_chance(catalog, items):
    corpus, spaces = made(catalog)
    alone = [{TEXT: spaces[0][TEXT]}, {IMAGE: spaces[0][IMAGE]}]
    for name, one in (
        cross_modal_questions(corpus, PAIRS, items, np.arange(COUNT), np.arange(COUNT)).rank(alone).items()
    ):
        gallery = corpus.have(IMAGE if name.endswith("image") else TEXT).sum()
        assert not one.above.any()
        assert (one.tied == gallery).all()


@settings(deadline=None)
@given(
    catalogs, st.lists(st.tuples(st.integers(0, COUNT - 1), st.sets(st.integers(0, COUNT - 1), min_size=1))), st.data()
)
def test_whole_items_ask_for_whole_items_and_never_for_themselves(catalog, wanted, data):
    corpus, spaces = made(catalog)
    pairs = [(item, sorted(right - {item}), at) for at, (item, right) in enumerate(wanted) if right - {item}]
    kinds = {"x": pairs} if pairs else {}
    beside = data.draw(parts | st.none())
    every = set(range(COUNT)) if beside is None else {*beside.tolist(), *(at for _, right, _ in pairs for at in right)}
    among = {} if beside is None else {"x": np.array(sorted(every), dtype=np.int64)}
    found = item_questions(corpus, kinds, among).rank(spaces)
    assert found.keys() == kinds.keys()
    placed = [item_vectors(corpus, space) for space in spaces]
    for number, (item, right, _) in enumerate(pairs):
        scores = np.sum([some @ some[item] for some in placed], axis=0, dtype=np.float32)
        best = max(scores[at] for at in right)
        wrong = [scores[at] for at in sorted(every) if at != item and at not in right]
        one = found["x"]
        near = np.isclose(wrong, best, atol=1e-5)
        assert one.above[number] >= sum(np.array(wrong)[~near] > best)
        assert one.above[number] + one.tied[number] - 1 <= sum(near) + sum(np.array(wrong)[~near] > best)


def test_centring_takes_away_what_all_have_in_common():
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(500, 4)) + np.array([5, 0, 0, 0])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = centred({TEXT: vectors, IMAGE: vectors[:0]})
    np.testing.assert_allclose(np.linalg.norm(found[TEXT], axis=1), 1, atol=1e-5)
    assert abs(found[TEXT].mean(axis=0)).max() < 0.15 < vectors.mean(axis=0).max()
    assert found[IMAGE].shape == (0, 4)
