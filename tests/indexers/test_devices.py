"""Threads, GPUs and the soundness of the installation."""

import importlib.metadata
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from pretended_cuda import pretended_cuda

from indexers import IndexersError, IndexSpec, devices
from indexers.exact import ExactIndex
from indexers.faiss_index import FaissIndex
from indexers.files import read_index_file


def flat():
    return FaissIndex.build(IndexSpec("Flat", "ip"), np.arange(8), np.eye(8, dtype=np.float32))


def test_one_query_uses_one_thread(monkeypatch):
    monkeypatch.setattr(devices, "THREADS", 8)
    assert [devices.search_threads(count) for count in (0, 1, 31, 32, 10_000)] == [1, 1, 1, 2, 8]
    assert [devices.build_threads(count) for count in (0, 300, 10_000, 10_000_000)] == [1, 1, 2, 8]


def test_the_thread_setting_is_given_back_and_is_each_threads_own():
    faiss = devices.faiss
    before, seen = faiss.omp_get_max_threads(), []
    with devices.FaissThreads(before + 3):
        assert faiss.omp_get_max_threads() == before + 3
        other = threading.Thread(target=lambda: seen.append(faiss.omp_get_max_threads()))
        other.start()
        other.join()
    assert faiss.omp_get_max_threads() == before
    assert seen != [before + 3]


@pytest.mark.parametrize(("names", "sound"), [(["faiss-gpu", "numpy"], True), (["faiss-gpu", "FAISS-CPU"], False)])
def test_two_packages_that_own_faiss_are_detected(names, sound, monkeypatch):
    found = [SimpleNamespace(metadata={"Name": name}) for name in names]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    check = devices.check_installation.__wrapped__
    if sound:
        check()
    else:
        with pytest.raises(IndexersError, match="faiss-gpu and faiss-cpu are installed together"):
            check()


def test_a_gpu_that_is_not_there_is_refused():
    assert devices.gpu_count() >= 0
    with pytest.raises(IndexersError, match="FAISS sees"):
        flat().on_gpu([devices.gpu_count()])
    graph = FaissIndex.build(IndexSpec("HNSW32,Flat", "ip"), np.arange(8), np.eye(8, dtype=np.float32))
    with pytest.raises(IndexersError, match="allowed on a GPU are Flat"):
        graph.on_gpu()


def test_exact_search_brings_all_that_it_needs_to_its_device(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    rows, allowed = np.arange(60) * 3, np.arange(0, 180, 9)
    plain = ExactIndex.build(IndexSpec("Exact", "ip"), rows, vectors)
    plain.save(tmp_path / "exact")
    with pretended_cuda():
        on_cuda = ExactIndex.from_file(read_index_file(tmp_path / "exact", None), device="cuda")
        assert on_cuda.vectors.is_cuda
        for k, some in ((5, None), (100, None), (3, allowed)):
            one, other = (index.search(vectors[:7], k, allowed=some) for index in (plain, on_cuda))
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


@pytest.mark.gpu
def test_a_gpu_copy_agrees_with_the_cpu_beyond_what_a_gpu_selects():
    if devices.gpu_count() == 0:
        pytest.skip("FAISS sees no GPU here")
    vectors = np.random.default_rng(0).standard_normal((5_000, 32)).astype(np.float32)
    index = FaissIndex.build(IndexSpec("Flat", "l2"), np.arange(5_000), vectors)
    for k in (10, 2_048, 3_000):
        one, other = index.search(vectors[:40], k), index.on_gpu().search(vectors[:40], k)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


PLACED = ["Flat", "IVF8,Flat", "IVF8,PQ8x8,RFlat", "IVF8,PQ8x8,Refine(SQ8)"]


@pytest.fixture(scope="module", params=PLACED)
def placed(request):
    vectors = np.random.default_rng(0).standard_normal((2_000, 32)).astype(np.float32)
    search = {} if request.param == "Flat" else {"nprobe": 8}
    if "," in request.param and "PQ" in request.param:
        search["k_factor"] = 32
    return FaissIndex.build(IndexSpec(request.param, "l2", search), np.arange(2_000), vectors), vectors


def assert_alike(index, other, vectors):
    for count in (1, 100):
        one, two = index.search(vectors[:count], 10), other.search(vectors[:count], 10)
        np.testing.assert_allclose(one.scores, two.scores, atol=2e-3)
        assert np.mean(one.rows == two.rows) > 0.99


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_share_a_batch_and_the_finer_vectors_decide(placed, copies, monkeypatch):
    """What a GPU would search is searched by copies on the CPU; all else is as it is with GPUs."""
    index, vectors = placed
    faiss = devices.faiss
    monkeypatch.setattr(devices, "gpu_count", lambda: copies)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, device, part: faiss.clone_index(part), raising=False)
    assert_alike(index, index.on_gpu(range(copies)), vectors)


@pytest.mark.parametrize(
    "factory", ["HNSW32,SQ8", "IVF8,SQ8", "IVF8,PQ8x4fs,RFlat", "PQ8x4fs,RFlat", "IVF8,PQ8x4,RFlat"]
)
def test_what_no_gpu_searches_stays_on_the_cpu(factory):
    vectors = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    with pytest.raises(IndexersError, match="stays on the CPU"):
        FaissIndex.build(IndexSpec(factory, "ip"), np.arange(500), vectors).on_gpu()


@pytest.mark.gpu
@pytest.mark.parametrize("shards", [False, True])
def test_gpus_agree_with_the_cpu(placed, shards):
    if devices.gpu_count() == 0:
        pytest.skip("FAISS sees no GPU here")
    index, vectors = placed
    assert_alike(index, index.on_gpu(range(devices.gpu_count()), shards=shards), vectors)
