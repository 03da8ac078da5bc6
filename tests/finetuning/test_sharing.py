"""Contents in common and companions, against sets."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.finetuning.companions import Companions
from mmrec.finetuning.corpus import Corpus
from mmrec.modality import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
COUNT = 8
hashes = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), max_size=4)
owned = st.lists(hashes, min_size=COUNT, max_size=COUNT)
places = st.lists(st.integers(0, COUNT - 1), max_size=12).map(lambda some: np.array(some, dtype=np.int64))
chosen = st.sampled_from([(), (TEXT,), (IMAGE,), (TEXT, IMAGE)])


def do_share(one, other, kinds, has):
    return one == other or any(set(has[kind][one]) & set(has[kind][other]) for kind in kinds)


@settings(deadline=None)
@given(texts=owned, pictures=owned, some=places, others=places, kinds=chosen)
def test_sharing_is_that_of_sets(texts, pictures, some, others, kinds):
    has = {TEXT: texts, IMAGE: pictures}
    corpus = Corpus.of(list(range(5, 5 + COUNT)), has)
    wanted = [[do_share(one, other, kinds or (TEXT, IMAGE), has) for other in others] for one in some]
    assert corpus.share(some, others, kinds).tolist() == wanted
    both = min(len(some), len(others))
    beside = corpus.share_each(some[:both], others[:both], kinds)
    assert beside.tolist() == [wanted[at][at] for at in range(both)]


@settings(deadline=None)
@given(left=places, right=places, some=places, others=places)
def test_companions_are_those_of_some_pair(left, right, some, others):
    pairs = list(zip(left.tolist(), right.tolist(), strict=False))
    known = {pair for one, other in pairs for pair in ((one, other), (other, one))}
    companions = Companions.of(left[: len(pairs)], right[: len(pairs)], COUNT)
    found = companions.among(some, others)
    assert found.shape == (len(some), len(others))
    assert found.tolist() == [[(one, other) in known for other in others.tolist()] for one in some.tolist()]


@settings(deadline=None)
@given(texts=owned, kept=st.lists(st.booleans(), min_size=5, max_size=5), order=st.permutations(range(COUNT)))
def test_a_corpus_is_what_items_have_in_any_order(texts, kept, order):
    rows = np.arange(10, 10 + COUNT)
    corpus = Corpus.of(rows.tolist(), {TEXT: texts})
    mixed = Corpus.of(rows[list(order)].tolist(), {TEXT: [texts[at] for at in order]})
    own = corpus.contents[TEXT]
    assert own.hashes == mixed.contents[TEXT].hashes == tuple(sorted({name for some in texts for name in some}))
    named = [[own.hashes[place] for place in own.of(item)] for item in range(COUNT)]
    assert named == [[mixed.contents[TEXT].hashes[place] for place in mixed.contents[TEXT].of(n)] for n in range(COUNT)]
    assert named == texts
    matrix = corpus.matrix(TEXT).toarray()
    assert [dict(Counter(own.hashes[at] for at in np.repeat(np.arange(len(own)), line))) for line in matrix] == [
        dict(Counter(some)) for some in texts
    ]
    assert corpus.have(TEXT).tolist() == [bool(some) for some in texts]
    assert not corpus.have(TEXT, IMAGE).any()
    mask = np.array(kept[: len(own)], dtype=bool)
    fewer = own.only(mask)
    left = {name for name, keep in zip(own.hashes, mask.tolist(), strict=True) if keep}
    assert [[fewer.hashes[place] for place in fewer.of(item)] for item in range(COUNT)] == [
        [name for name in some if name in left] for some in texts
    ]


@settings(deadline=None)
@given(texts=owned, seed=st.integers(0, 100))
def test_a_drawn_content_is_the_item_s_own_and_each_is_drawn(texts, seed):
    own = Corpus.of(list(range(COUNT)), {TEXT: texts}).contents[TEXT]
    having = np.flatnonzero(own.counts > 0)
    random = np.random.default_rng(seed)
    drawn = [own.drawn(having, random) for _ in range(60)]
    for at, item in enumerate(having.tolist()):
        assert {int(some[at]) for some in drawn} == set(own.of(item).tolist())


def test_one_row_number_twice_is_refused():
    with pytest.raises(UsageError, match="given once"):
        Corpus.of([3, 3], {TEXT: [[b"a"], [b"b"]]})
