"""What a corpus holds: the contents of items, whatever order they come in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus
from mmrec.types import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
COUNT = 8
hashes = st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), max_size=4)
owned = st.lists(hashes, min_size=COUNT, max_size=COUNT)


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
    matrix = corpus.contents[TEXT].matrix.toarray()
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
    drawn = [own.draw(having, random) for _ in range(60)]
    for at, item in enumerate(having.tolist()):
        assert {int(some[at]) for some in drawn} == set(own.of(item).tolist())


def test_one_row_number_twice_is_refused():
    with pytest.raises(UsageError, match="given once"):
        Corpus.of([3, 3], {TEXT: [[b"a"], [b"b"]]})
