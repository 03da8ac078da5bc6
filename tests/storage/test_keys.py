"""The key index against a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmrec.storage.vectors import KeyIndex, key_array

# Few first halves, so that keys which agree in their first eight bytes are common.
halves = st.sampled_from([b"\0" * 8, b"a" * 8, b"\xff" * 8, b"a" * 7 + b"b"])
keys = st.lists(st.builds(lambda one, other: one + other, halves, st.one_of(halves, st.binary(min_size=8, max_size=8))))


@given(keys, keys)
def test_finds_what_a_dictionary_finds(held, asked):
    places: dict[bytes, int] = {}
    for place, key in enumerate(held):
        places.setdefault(key, place)
    found = KeyIndex(key_array(held)).find(key_array([*asked, *held]))
    np.testing.assert_array_equal(found, [places.get(key, -1) for key in [*asked, *held]])
