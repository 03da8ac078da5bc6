"""A saved index that is not exactly what was saved is refused."""

import hashlib
import os
import struct

import numpy as np
import pytest

from indexers import ExactIndex, FaissIndex, IndexFileError, IndexSpec, build, load

FACTORIES = (
    *("Exact", "Flat", "HNSW32,Flat", "HNSW32,SQ8", "IVF4,Flat", "IVF4,SQ8", "IVF2,PQ4x4,RFlat"),
    *("IVF2,PQ4x4fs,Refine(SQ8)", "PQ4x4fs,RFlat"),
)


@pytest.fixture(scope="module", params=FACTORIES)
def saved(request, tmp_path_factory):
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("saved") / "index"
    digest = build(IndexSpec(request.param, "ip"), np.arange(50), vectors).save(path)
    return path, digest


def test_the_digest_is_of_the_whole_file(saved):
    path, digest = saved
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert len(load(path, digest.upper())) == 50


def test_any_truncation_is_refused(saved, tmp_path):
    path, digest = saved
    whole = path.read_bytes()
    for size in {*range(0, 300, 7), *range(300, len(whole), 997), len(whole) - 1, len(whole) - 32}:
        (tmp_path / "cut").write_bytes(whole[:size])
        for expected in (None, digest):
            with pytest.raises(IndexFileError):
                load(tmp_path / "cut", expected)


def test_any_flipped_byte_is_refused(saved, tmp_path):
    path, digest = saved
    whole = path.read_bytes()
    for place in {*range(0, 200, 3), *range(200, len(whole), 991), len(whole) - 1}:
        flipped = bytearray(whole)
        flipped[place] ^= 0x41
        (tmp_path / "flipped").write_bytes(flipped)
        for expected in (None, digest):
            with pytest.raises(IndexFileError):
                load(tmp_path / "flipped", expected)


def resealed(whole: bytes, change) -> bytes:
    body = bytearray(whole[:-32])
    change(body)
    return bytes(body) + hashlib.sha256(body).digest()


def test_a_future_version_is_named(saved, tmp_path):
    path, _ = saved
    future = resealed(path.read_bytes(), lambda body: body.__setitem__(slice(8, 12), struct.pack("<I", 2)))
    (tmp_path / "future").write_bytes(future)
    with pytest.raises(IndexFileError, match="format version 2"):
        load(tmp_path / "future")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"count": 50', b'"count": 51'),
        (b'"count": 50', b'"count": 49'),
        (b'"count": 50', b'"count": -5'),
        (b'"count": 50', b'"count": "a'),
        (b'"dim": 8', b'"dim": 9'),
        (b'"dim": 8', b'"dim": 0'),
        (b'"spec"', b'"spek"'),
        (b'"metric"', b'"metrik"'),
        (b'"kind"', b'"kinb"'),
    ],
)
def test_a_header_that_lies_is_refused_even_under_a_right_checksum(saved, tmp_path, old, new):
    path, _ = saved

    def change(body):
        place = body.index(old)
        body[place : place + len(new)] = new

    (tmp_path / "lying").write_bytes(resealed(path.read_bytes(), change))
    with pytest.raises(IndexFileError):
        load(tmp_path / "lying")


def test_a_payload_that_faiss_cannot_read_is_refused(saved, tmp_path):
    path, _ = saved
    (tmp_path / "short").write_bytes(resealed(path.read_bytes(), lambda body: body.__delitem__(slice(-100, None))))
    with pytest.raises(IndexFileError):
        load(tmp_path / "short")


def test_what_is_not_an_index_is_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"hello " * 100)
    with pytest.raises(IndexFileError, match="not a saved index"):
        load(tmp_path / "text")
    with pytest.raises(IndexFileError, match="cannot be read"):
        load(tmp_path / "absent")
    with pytest.raises(IndexFileError, match="cannot be read"):
        load(tmp_path)


def test_another_file_than_expected_is_refused_before_it_is_parsed(saved):
    path, _ = saved
    with pytest.raises(IndexFileError, match="expected 00"):
        load(path, "00" * 32)


def test_each_kind_opens_by_its_own_class(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    build(IndexSpec("Exact", "ip"), np.arange(4), vectors).save(tmp_path / "exact")
    build(IndexSpec("Flat", "ip"), np.arange(4), vectors).save(tmp_path / "flat")
    assert isinstance(load(tmp_path / "exact"), ExactIndex)
    assert isinstance(load(tmp_path / "flat"), FaissIndex)


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "index"
    index = build(IndexSpec("Flat", "ip"), np.arange(4), np.eye(4, dtype=np.float32))
    digest = index.save(path)

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        index.save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["index"]
    assert len(load(path, digest)) == 4


def test_an_open_index_outlives_its_file(saved, tmp_path):
    path, digest = saved
    (tmp_path / "index").write_bytes(path.read_bytes())
    index = load(tmp_path / "index", digest)
    query = np.ones((1, 8), dtype=np.float32)
    before = index.search(query, 5)
    (tmp_path / "index").unlink()
    np.testing.assert_array_equal(index.search(query, 5).rows, before.rows)
