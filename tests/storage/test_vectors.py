"""Vectors are found by key and nothing else."""

import shutil
import subprocess
import sys

import lance
import numpy as np
import pytest

from mmrec.errors import StoreError
from mmrec.storage.tables import drop_rows
from mmrec.storage.vectors import VectorAppender, VectorTable
from mmrec.types import Space

SPACE = Space("probe", 8, "f" * 64)


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    return [rng.bytes(16) for _ in range(300)], rng.normal(size=(300, 8)).astype(np.float32)


def test_vectors_come_back_by_key_in_any_order(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):
        VectorAppender(path, SPACE).append(hashes[part], vectors[part])
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
    VectorAppender(path, SPACE).append(hashes[:10], vectors[:10])
    early = VectorTable(path, SPACE)
    VectorAppender(path, SPACE).append(hashes[10:], vectors[10:])
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
    VectorAppender(path, SPACE).append(hashes, vectors)
    with pytest.raises(StoreError, match="swapped or edited"):
        VectorTable(path, Space("probe", 8, "0" * 64))


def keys_of(path):
    return VectorTable(path, SPACE).keys.keys


def test_what_is_there_stays_and_what_is_given_twice_is_written_once(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    assert VectorAppender(path, SPACE).append(hashes[:200], vectors[:200]) == 200
    version = VectorTable(path, SPACE).version
    assert VectorAppender(path, SPACE).append(hashes[:200], -vectors[:200]) == 0
    assert VectorTable(path, SPACE).version == version  # not even an empty commit
    assert (
        VectorAppender(path, SPACE).append(hashes[100:] + hashes[250:], np.concatenate([-vectors[100:], vectors[250:]]))
        == 100
    )
    found, got = VectorTable(path, SPACE).fetch(hashes)
    assert found.all()
    assert len(keys_of(path)) == 300
    np.testing.assert_allclose(got, np.concatenate([vectors[:200], -vectors[200:]]), atol=2e-3)


def test_one_who_appends_sees_what_others_wrote_deleted_or_made_anew(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    VectorAppender(path, SPACE).append(hashes[:50], vectors[:50])
    one = VectorAppender(path, SPACE, VectorTable(path, SPACE))
    assert VectorAppender(path, SPACE).append(hashes[50:100], vectors[50:100]) == 50
    assert one.append(hashes[:120], vectors[:120]) == 20
    assert VectorAppender(path, SPACE).append(hashes[100:130], vectors[100:130]) == 10
    table = lance.dataset(str(path))
    rows = table.scanner(columns=["hash"], with_row_id=True).to_table().to_pydict()
    gone = {hashes[3], hashes[60], hashes[110], hashes[125]}
    drop_rows(table, [row for row, key in zip(rows["_rowid"], rows["hash"], strict=True) if key in gone])
    assert one.append(hashes[:140], vectors[:140]) == 10 + len(gone)
    shutil.rmtree(path)
    VectorAppender(path, SPACE).append(hashes[:200], vectors[:200])  # another table, with a lower version
    assert one.append(hashes[:210], vectors[:210]) == 10
    assert not one.has([b"?" * 16]).any()
    assert len(keys_of(path)) == len(np.unique(keys_of(path), axis=0)) == 210


def test_appending_goes_on_through_compaction(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    one, other = VectorAppender(path, SPACE), VectorAppender(path, SPACE)
    for start in range(0, 280, 4):  # more files than are left as they are
        assert one.append(hashes[start : start + 8], vectors[start : start + 8]) == (8 if start == 0 else 4)
        if start % 40 == 0:
            assert other.append(hashes[start : start + 8], vectors[start : start + 8]) == 0
    assert len(keys_of(path)) == 284


def test_a_table_that_has_doubled_vectors_answers_and_gets_no_third(tmp_path, contents):
    hashes, vectors = contents
    path = tmp_path / "probe.lance"
    VectorAppender(path, SPACE).append(hashes[:20], vectors[:20])
    lance.write_dataset(lance.dataset(str(path)).to_table(), str(path), mode="append")  # as a store of before may be
    assert VectorAppender(path, SPACE).append(hashes[:30], vectors[:30]) == 10
    table = VectorTable(path, SPACE)
    assert len(table) == 50
    np.testing.assert_allclose(table.fetch(hashes[:30])[1], vectors[:30], atol=2e-3)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from mmrec.types import Space
from mmrec.storage.lock import file_lock
from mmrec.storage.vectors import VectorAppender
path = Path(sys.argv[1])
hashes = [n.to_bytes(16, "big") for n in range(40)]
one = VectorAppender(path, Space("probe", 8, "f" * 64))
print("ready", flush=True)
sys.stdin.readline()
written = 0
for start in range(0, 40, 2):
    with file_lock(path.with_name("lock")):
        written += one.append(hashes[start : start + 6], np.ones((len(hashes[start : start + 6]), 8), np.float32))
print(written)
"""


def test_processes_that_append_equal_contents_at_once_write_them_once(tmp_path):
    path = tmp_path / "probe.lance"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITER, str(path)]
    jobs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    assert [job.stdout.readline() for job in jobs] == ["ready\n"] * 2
    for job in jobs:
        job.stdin.write("go\n")
        job.stdin.flush()
    written = [int(job.communicate()[0]) for job in jobs]
    assert sum(written) == 40
    assert len(keys_of(path)) == len(np.unique(keys_of(path), axis=0)) == 40
