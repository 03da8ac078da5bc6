"""Threads, GPUs and the soundness of the installation."""

import importlib.metadata
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from indexers import IndexersError, IndexSpec, devices, faiss_module
from indexers.faiss_index import FaissIndex


def flat():
    return FaissIndex.build(IndexSpec("Flat", "ip"), np.arange(8), np.eye(8, dtype=np.float32))


def test_one_query_uses_one_thread(monkeypatch):
    monkeypatch.setattr(devices, "THREADS", 8)
    assert [devices.search_threads(count) for count in (0, 1, 31, 32, 10_000)] == [1, 1, 1, 2, 8]
    assert [devices.build_threads(count) for count in (0, 300, 10_000, 10_000_000)] == [1, 1, 2, 8]


def test_the_thread_setting_is_given_back_and_is_each_threads_own():
    faiss = faiss_module.faiss
    before, seen = faiss.omp_get_max_threads(), []
    with devices.using_threads(before + 3):
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
    check = faiss_module.check_installation.__wrapped__
    if sound:
        check()
    else:
        with pytest.raises(IndexersError, match="faiss-gpu and faiss-cpu are installed together"):
            check()


def test_a_gpu_that_is_not_there_is_refused():
    assert devices.gpu_count() >= 0
    with pytest.raises(IndexersError, match="FAISS sees"):
        flat().on_gpu(devices.gpu_count())
    graph = FaissIndex.build(IndexSpec("HNSW32,Flat", "ip"), np.arange(8), np.eye(8, dtype=np.float32))
    with pytest.raises(IndexersError, match="allowed on a GPU is Flat"):
        graph.on_gpu()


@pytest.mark.gpu
def test_a_gpu_copy_agrees_with_the_cpu_beyond_what_a_gpu_selects():
    if devices.gpu_count() == 0:
        pytest.skip("FAISS sees no GPU here")
    vectors = np.random.default_rng(0).standard_normal((5_000, 32)).astype(np.float32)
    index = FaissIndex.build(IndexSpec("Flat", "l2"), np.arange(5_000), vectors)
    for k in (10, 2_048, 3_000):
        one, other = index.search(vectors[:40], k), index.on_gpu().search(vectors[:40], k)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
