"""Held-out items: whole groups, apart from each other, and against a search for groups that goes step by step."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.finetuning.config import HeldOutConfig
from mmrec.finetuning.corpus import Corpus, groups_of, hold_out
from mmrec.types import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
some_hashes = st.lists(st.sampled_from([bytes([at]) for at in range(40)]), max_size=2)
catalogs = st.lists(st.tuples(some_hashes, some_hashes), min_size=1, max_size=25)
chosen = st.sampled_from([(), (TEXT,), (IMAGE,), (TEXT, IMAGE)])
shares = st.floats(0.01, 0.49)


def corpus_of(catalog):
    texts, pictures = ([item[side] for item in catalog] for side in (0, 1))
    return Corpus.of(list(range(len(catalog))), {TEXT: texts, IMAGE: pictures})


def hanging_together(catalog, kinds):
    """Sets of items, joined for as long as two of them share a content."""
    sides = [0 if kind is TEXT else 1 for kind in kinds or (TEXT, IMAGE)]
    groups = [({at}, {(side, name) for side in sides for name in item[side]}) for at, item in enumerate(catalog)]
    joined = True
    while joined:
        joined = False
        for one in range(len(groups)):
            for other in range(one + 1, len(groups)):
                if groups[one][1] & groups[other][1]:
                    items, names = groups.pop(other)
                    groups[one] = (groups[one][0] | items, groups[one][1] | names)
                    joined = True
                    break
            if joined:
                break
    return {frozenset(items) for items, _ in groups}


@settings(deadline=None)
@given(catalogs, chosen)
def test_groups_are_what_hangs_together(catalog, together):
    groups = groups_of(corpus_of(catalog), together)
    found = {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}
    assert found == hanging_together(catalog, together)
    assert set(groups.tolist()) == set(range(len(found)))


@settings(deadline=None)
@given(catalogs, chosen, shares, shares, st.integers(0, 5), st.data())
def test_no_group_is_in_two_parts_and_no_item_is_lost(catalog, together, validation, test, seed, data):
    corpus = corpus_of(catalog)
    items = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(catalog), max_size=len(catalog))))
    config = HeldOutConfig(validation=validation, test=test, together=together)
    try:
        held = hold_out(corpus, items, config, seed)
    except UsageError:
        assume(False)
    parts = (held.train, held.validation, held.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), items)
    for part in parts:
        assert len(part)
        assert np.array_equal(part, np.unique(part))
    for share, part in ((validation, held.validation), (test, held.test)):
        assert len(part) <= max(1, round(share * len(items)))
    met = [set(held.groups[part].tolist()) for part in parts]
    assert not met[0] & met[1] | met[0] & met[2] | met[1] & met[2]
    kinds = together or (TEXT, IMAGE)
    names = [{(kind, name) for kind in kinds for at in part for name in catalog[at][kind is IMAGE]} for part in parts]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    again = hold_out(corpus, items, config, seed)
    assert all(np.array_equal(getattr(held, name), getattr(again, name)) for name in ("train", "validation", "test"))


def test_the_seed_decides_and_all_seeds_reach_all_items():
    corpus = corpus_of([([bytes([at])], []) for at in range(20)])
    everyone = np.arange(20)
    tests = [hold_out(corpus, everyone, HeldOutConfig(), seed).test.tolist() for seed in range(60)]
    assert all(len(some) == 2 for some in tests)
    assert {item for some in tests for item in some} == set(range(20))


def test_a_group_that_is_larger_than_a_share_is_trained_on():
    large = [([b"shared"], []) for _ in range(10)]
    corpus = corpus_of([*large, *[([bytes([at])], []) for at in range(10)]])
    held = hold_out(corpus, np.arange(20), HeldOutConfig(validation=0.2, test=0.2), 0)
    assert set(range(10)) <= set(held.train.tolist())
    assert len(held.validation) == len(held.test) == 4


@pytest.mark.parametrize("count", [1, 2, 12])
def test_what_cannot_be_split_is_refused(count):
    corpus = corpus_of([([b"shared"], []) for _ in range(count)])
    with pytest.raises(UsageError, match=rf"{count} items cannot be split.* largest\s.*group has {count}"):
        hold_out(corpus, np.arange(count), HeldOutConfig(), 0)


def test_no_items_at_all_are_told_as_that():
    corpus = Corpus.of([1, 2], {Modality.TEXT: [[b"a"], [b"b"]]})
    with pytest.raises(UsageError, match="nothing to learn from"):
        hold_out(corpus, np.empty(0, dtype=np.int64), HeldOutConfig(), 0)
