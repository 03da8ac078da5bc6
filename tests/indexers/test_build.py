"""Building: choice of recipe, input larger than a chunk, the same bytes twice, and clear refusals."""

import subprocess
import sys

import numpy as np
import pytest

import indexers.faiss_index
import indexers.vectors
from indexers import IndexersError, IndexSpec, build, default_spec
from indexers.faiss_recipe import families, memory_bytes


def test_default_recipes():
    assert default_spec(0, 512, "cosine") == IndexSpec("Flat", "cosine")
    assert default_spec(49_999, 512, "l2", memory_bytes=1) == IndexSpec("Flat", "l2")
    assert default_spec(50_000, 512, "ip") == IndexSpec("HNSW32,Flat", "ip", {"efSearch": 64})
    assert default_spec(1_000_000, 512, "ip", memory_bytes=2_400_000_000).factory == "HNSW32,Flat"
    assert default_spec(1_000_000, 512, "ip", memory_bytes=1_000_000_000).factory == "HNSW32,SQ8"
    assert default_spec(1_000_000, 512, "ip", memory_bytes=2_200_000_000).factory == "IVF,PQ128x4fs,RFlat"
    assert default_spec(1_000_000, 512, "ip", memory_bytes=700_000_000).factory == "IVF,PQ256x4fs,Refine(SQ8)"
    assert default_spec(1_000_000, 512, "ip", memory_bytes=600_000_000).factory == "IVF,SQ8"
    assert default_spec(1_000_000, 511, "ip", memory_bytes=700_000_000).factory == "IVF,SQ8"
    with pytest.raises(IndexersError, match="takes 544,388,608"):
        default_spec(1_000_000, 512, "ip", memory_bytes=100_000_000)


@pytest.mark.parametrize(
    "factory",
    [
        *("Flat", "HNSW32,Flat", "HNSW16,SQ8", "IVF16,Flat", "IVF,SQ8", "IVF16,PQ8,RFlat", "IVF16,PQ8x8,Refine(SQ8)"),
        *("IVF,PQ16x4fs,RFlat", "IVF32,PQ16x4fs,Refine(SQ8)", "PQ16x4fs,RFlat", "PQ8x4fs,Refine(SQ8)"),
    ],
)
def test_the_memory_estimate_is_that_of_a_saved_index(factory, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3_000, 32)).astype(np.float32)
    spec = IndexSpec(factory, "ip")
    build(spec, np.arange(3_000), vectors).save(tmp_path / "index")
    assert (tmp_path / "index").stat().st_size == pytest.approx(memory_bytes(spec, 32, 3_000), rel=0.03)


@pytest.mark.parametrize("factory", ["Exact", "Flat", "HNSW32,Flat", "HNSW32,SQ8", "IVF,SQ8", "IVF,PQ8x4fs,RFlat"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_memory_map_of_float16_in_many_chunks(factory, shuffled, tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((1_000, 16)).astype(np.float16)
    vectors.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", dtype=np.float16, mode="r", shape=(1_000, 16))
    rows = np.random.default_rng(1).permutation(1_000) if shuffled else np.arange(1_000)
    whole = build(IndexSpec(factory, "cosine"), rows, vectors)
    monkeypatch.setattr(indexers.vectors, "CHUNK_BYTES", 64 * 4 * 16)
    chunked = build(IndexSpec(factory, "cosine"), rows, mapped)
    query = vectors[:30].astype(np.float32)
    one, other = whole.search(query, 1), chunked.search(query, 1, search={})
    np.testing.assert_array_equal(one.rows[:, 0], rows[:30])
    np.testing.assert_array_equal(other.rows[:, 0], rows[:30])
    allowed = chunked.search(query, 5, allowed=rows[:500])
    assert np.isin(allowed.rows, rows[:500]).all()


@pytest.mark.parametrize("factory", [each for family in families() for each in family.examples])
def test_builds_give_the_same_bytes_whatever_the_order_and_the_threads(factory, tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((2_000, 24)).astype(np.float32)
    rows, order = np.arange(2_000), np.random.default_rng(1).permutation(2_000)
    digests = {build(IndexSpec(factory, "ip"), rows, vectors).save(tmp_path / "index")}
    digests.add(build(IndexSpec(factory, "ip"), rows[order], vectors[order]).save(tmp_path / "index"))
    monkeypatch.setattr(indexers.faiss_index, "build_threads", lambda vectors: 2)
    digests.add(build(IndexSpec(factory, "ip"), rows, vectors).save(tmp_path / "index"))
    assert len(digests) == 1


@pytest.mark.parametrize("factory", ["PQ4", "PQ4x4fs", "IVF4,PQ4", "IVF4,PQ3,RFlat", "LSH", "nonsense", ""])
def test_unknown_recipes_are_refused(factory):
    with pytest.raises(IndexersError, match="Allowed are recipes like Flat, HNSW32,Flat"):
        build(IndexSpec(factory, "ip"), np.arange(8), np.eye(8, dtype=np.float32))


@pytest.mark.parametrize("search", [{"nprobe": 4}, {"efSearch": 0}, {"efsearch": 64}])
def test_unknown_search_parameters_are_refused(search):
    rows, vectors = np.arange(8), np.eye(8, dtype=np.float32)
    with pytest.raises(IndexersError, match="takes efSearch"):
        build(IndexSpec("HNSW32,Flat", "ip", search), rows, vectors)
    index = build(IndexSpec("HNSW32,Flat", "ip"), rows, vectors)
    with pytest.raises(IndexersError, match="takes efSearch"):
        index.search(vectors, 1, search=search)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_face_imports_neither_faiss_nor_torch():
    done = run("import sys, indexers; print({'faiss', 'torch'} & set(sys.modules)); indexers.Neighbours; dir(indexers)")
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_exact_search_works_without_faiss(tmp_path):
    done = run(
        "import sys; sys.modules['faiss'] = None\n"
        "import numpy as np, pathlib, indexers\n"
        "spec = indexers.IndexSpec('Exact', 'ip')\n"
        "index = indexers.build(spec, np.arange(3), np.eye(3, dtype=np.float32))\n"
        f"path = pathlib.Path({str(tmp_path / 'index')!r})\n"
        "digest = index.save(path)\n"
        "print(indexers.load(path, digest).search(np.eye(3, dtype=np.float32), 1).rows.ravel().tolist())\n"
        "print(len(indexers.LiveIndex(3, 'ip', [index])))\n"
    )
    assert done.stdout.split("\n")[:2] == ["[0, 1, 2]", "3"], done.stderr
