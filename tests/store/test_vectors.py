"""Vectors are found by key and nothing else."""

import numpy as np
import pytest

from mmrec.errors import StoreError
from mmrec.spaces import Space
from mmrec.store.vectors import VectorTable, append_vectors

SPACE = Space("probe", 8, "f" * 64)


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    return [rng.bytes(16) for _ in range(300)], rng.normal(size=(300, 8)).astype(np.float32)


def test_vectors_come_back_by_key_in_any_order(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):
        append_vectors(path, SPACE, hashes[part], vectors[part])
    table = VectorTable(path, SPACE)
    assert len(table) == 300
    order = np.random.default_rng(1).permutation(300)
    asked = [hashes[i] for i in order] + [b"?" * 16, hashes[5], hashes[5]]
    found, got = table.fetch(asked)
    assert found.tolist() == [True] * 300 + [False, True, True]
    np.testing.assert_allclose(got[:300], vectors[order], atol=2e-3)
    assert not got[300].any()
    np.testing.assert_array_equal(got[301], got[302])
    assert table.has([hashes[0], b"?" * 16]).tolist() == [True, False]


def test_a_snapshot_does_not_see_later_vectors(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    append_vectors(path, SPACE, hashes[:10], vectors[:10])
    early = VectorTable(path, SPACE)
    append_vectors(path, SPACE, hashes[10:], vectors[10:])
    assert len(early) == 10
    assert len(VectorTable(path, SPACE)) == 300
    assert len(VectorTable(path, SPACE, version=early.version)) == 10


def test_a_table_that_was_never_written_is_empty(tmp_path):
    table = VectorTable(tmp_path / "none.lance", SPACE)
    found, got = table.fetch([b"x" * 16])
    assert (len(table), table.version, found.tolist()) == (0, None, [False])
    assert got.shape == (1, 8)


def test_vectors_of_another_encoder_are_refused(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    append_vectors(path, SPACE, hashes, vectors)
    with pytest.raises(StoreError, match="swapped or edited"):
        VectorTable(path, Space("probe", 8, "0" * 64))
