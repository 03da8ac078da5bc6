"""What a generation takes over from the one before, and what is counted when the store has moved on."""

import lance
import numpy as np
import pytest
from small_store import NAMES, SPACE, Cheap, index

import mmrec
from indexers.protocol import IndexSpec
from indexers.recall import Recall
from mmrec.errors import StoreError
from mmrec.files import file_sha256
from mmrec.generation import build
from mmrec.generation.fuse import Recipe, fit_fusion, open_tables
from mmrec.generation.generation import open_generation
from mmrec.storage.generations import generation_numbers
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorAppender
from mmrec.verification import generations as verification_of_generations
from mmrec.verification.verify import verify_store
from pipelines.cli import app
from pipelines.outcome import run_app


def test_status_counts_contents_as_they_are_now(tmp_path):
    layout = Layout(tmp_path / "store")
    index(layout)
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    assert engine.status()["contents"] == {"cheap.text": 60}  # one more is in quarantine
    engine.delete(["i5", "i6"])
    assert engine.status()["contents"] == {"cheap.text": 58}


def test_a_vector_that_comes_back_comes_into_the_next_generation(tmp_path):
    layout = Layout(tmp_path / "store")
    index(layout)
    table = lance.dataset(str(layout.vectors(SPACE)))
    kept = table.to_table().slice(0, 1)
    table.delete("true")
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    index(layout, refit=True)  # everything is encoded anew
    first = engine.vectors(list(NAMES))
    table = lance.dataset(str(layout.vectors(SPACE)))
    lost = kept["hash"][0].as_py()
    table.delete(f"hash = X'{lost.hex()}'")
    tally, made = index(layout)
    assert (sum(tally.encoded.values()), tally.changed, made.number) == (1, 0, 3)
    np.testing.assert_allclose(engine.vectors(list(NAMES)), first, atol=1e-3)
    assert verify_store(layout, full=True).findings == []
    assert index(layout)[1].number == 3


@pytest.mark.parametrize("low", ["self_query", "recall"])
def test_an_index_that_finds_too_little_is_not_published(tmp_path, monkeypatch, low):
    layout = Layout(tmp_path / "store")
    index(layout, NAMES[:40])
    monkeypatch.setattr(build, "measure_search", lambda *_: Recall(**{"self_query": 1.0, "recall": 1.0, low: 0.5}))
    with pytest.raises(StoreError, match=r"nothing was published.*50%"):
        index(layout)
    assert generation_numbers(layout) == [1]
    assert verify_store(layout).findings == []


@pytest.mark.parametrize("measured", [Recall(0.93, 0.903), Recall(0.949, 1.0), Recall(0.95, 0.95)])
def test_an_index_below_the_target_is_published_with_a_warning(tmp_path, monkeypatch, capfd, measured):
    layout = Layout(tmp_path / "store")
    monkeypatch.setattr(build, "measure_search", lambda *_: measured)
    made = index(layout)[1]
    assert made.checks == {"self_query": measured.self_query, "recall": measured.recall}
    if measured.recall == measured.self_query:
        assert made.warnings == ()
        return
    (said,) = made.warnings
    assert f"finds {measured.recall:.1%} of what exact search finds, and {measured.self_query:.1%}" in said
    assert "the target is 95%" in said
    assert "--index Flat" in said
    assert run_app(app, ["status", str(layout.root)]) == 0
    shown = capfd.readouterr().out
    assert "warnings" in shown
    assert "--index" in shown
    assert mmrec.open(layout.root).status()["warnings"] == [said]
    monkeypatch.setattr(verification_of_generations, "measure_search", lambda *_: measured)
    report = verify_store(layout)
    assert report.sound
    assert any(f"{measured.recall:.1%} of what exact search finds" in note for note in report.notes)
    # The way out that it names ends the warning.
    monkeypatch.undo()
    again = index(layout, index=IndexSpec("Exact", "ip"))[1]
    assert (again.index_factory, again.index_given, again.warnings) == ("Exact", True, ())


def test_vectors_that_are_not_of_their_contents_are_not_published(tmp_path, monkeypatch):
    layout = Layout(tmp_path / "store")
    index(layout, NAMES[:40])
    real = build.open_folder

    def swapped(folder, made):
        vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="r+")
        vectors[[1, 2]] = vectors[[2, 1]]
        vectors.flush()
        # Whoever swaps them in memory, before they are written, has the checksum right.
        sums = {**made.sha256, "vectors.npy": file_sha256(folder / "vectors.npy")}
        return real(folder, made.model_copy(update={"sha256": sums}))

    monkeypatch.setattr(build, "open_folder", swapped)
    with pytest.raises(StoreError, match=r"nothing was published.*2 of 60 items do not have the vectors"):
        index(layout)
    assert generation_numbers(layout) == [1]


def test_a_sample_is_of_ids_and_its_order_of_contents(tmp_path, monkeypatch):
    monkeypatch.setattr("mmrec.generation.fuse.FIT_SAMPLE", 20)
    monkeypatch.setattr("indexers.recipes.default_spec", lambda *_: IndexSpec("Flat", "ip"))
    stores = [Layout(tmp_path / name) for name in ("one", "two")]
    index(stores[0])
    index(stores[1], NAMES[:3])
    index(stores[1], NAMES[::-1])
    fusions = []
    for layout in stores:
        before = open_generation(layout, generation_numbers(layout)[-1])
        tables = open_tables(layout, before.fusion.blocks)
        fusions.append(fit_fusion(ItemTable(layout.items), tables, before.fusion.weights, Recipe({}, seed=0)))
        other = fit_fusion(ItemTable(layout.items), tables, before.fusion.weights, Recipe({}, seed=1))
        assert not np.array_equal(other.means[0], fusions[-1].means[0])
    assert 5 < fusions[0].fitted_on[0] < 40
    np.testing.assert_array_equal(fusions[0].means[0], fusions[1].means[0])
    np.testing.assert_array_equal(fusions[0].rotations[0].directions, fusions[1].rotations[0].directions)


def test_the_newer_vectors_of_a_table_are_told_apart(tmp_path):
    layout = Layout(tmp_path / "store")
    layout.create()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 16)).astype("f4")
    hashes = [bytes([n] * 16) for n in range(4)]
    VectorAppender(layout.vectors(SPACE), SPACE).append(hashes[:3], vectors[:3])
    from mmrec.storage.vectors import VectorTable

    seen = VectorTable(layout.vectors(SPACE), SPACE).version
    VectorAppender(layout.vectors(SPACE), SPACE).append(hashes[3:], vectors[3:])
    table = VectorTable(layout.vectors(SPACE), SPACE)
    assert [row.tobytes() for row in table.newer_than(seen)] == hashes[3:]
