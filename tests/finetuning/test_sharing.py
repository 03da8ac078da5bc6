"""Contents that items have in common, against sets."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.finetuning.corpus import Corpus
from mmrec.types import Modality

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
