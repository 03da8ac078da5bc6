"""Items as mean directions, against the same in float64 item by item."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import draw, item_vectors
from mmrec.types import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
COUNT, DIM = 7, 3
names = st.lists(st.sampled_from([bytes([at]) for at in range(9)]), max_size=3)
catalogs = st.lists(st.tuples(names, names), min_size=COUNT, max_size=COUNT)


def made(catalog, seed):
    corpus = Corpus.of(list(range(COUNT)), {TEXT: [one for one, _ in catalog], IMAGE: [one for _, one in catalog]})
    random = np.random.default_rng(seed)
    vectors = {}
    for modality, own in corpus.contents.items():
        some = random.normal(size=(len(own), DIM))
        vectors[modality] = (some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32)
    return corpus, vectors


def direction(vector):
    length = np.linalg.norm(vector)
    return vector / length if length else vector


@settings(deadline=None)
@given(catalogs, st.integers(0, 1000))
def test_all_contents_of_a_modality_count_as_one(catalog, seed):
    corpus, vectors = made(catalog, seed)
    placed = item_vectors(corpus, vectors)
    there = placed.any(axis=1)
    for item in range(COUNT):
        parts = [
            direction(vectors[kind][own.of(item)].astype(np.float64).sum(axis=0))
            for kind, own in corpus.contents.items()
        ]
        np.testing.assert_allclose(placed[item], direction(sum(parts)), atol=1e-5)
    assert there.tolist() == [bool(one or other) for one, other in catalog]


@settings(deadline=None)
@given(catalogs, st.integers(0, 1000), st.sets(st.integers(0, COUNT - 1)))
def test_a_step_embeds_each_content_once_and_finds_its_items_again(catalog, seed, chosen):
    corpus, vectors = made(catalog, seed)
    items = np.array(sorted(item for item in chosen if any(catalog[item])), dtype=np.int64)
    drawn = draw(corpus, items, np.random.default_rng(seed))
    assert np.array_equal(drawn.find(items[::-1]), np.arange(len(items))[::-1])
    expected = np.zeros((len(items), DIM))
    for modality, (having, at) in drawn.parts.items():
        places = drawn.contents[modality]
        assert np.array_equal(places, np.unique(places))
        assert having.tolist() == [n for n, item in enumerate(items.tolist()) if catalog[item][modality is IMAGE]]
        for n, place in zip(having.tolist(), places[at].tolist(), strict=True):
            assert place in corpus.contents[modality].of(int(items[n]))
            expected[n] += vectors[modality][place]
        assert set(at.tolist()) == set(range(len(places)))
    if len(items):
        given_ = {kind: torch.from_numpy(vectors[kind][places]) for kind, places in drawn.contents.items()}
        found = drawn.pooled(given_).numpy()
        np.testing.assert_allclose(found, [direction(line) for line in expected], atol=1e-5)
