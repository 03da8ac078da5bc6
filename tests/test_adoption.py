"""A store that moves to other encoders and back: every query is answered, each from one space alone."""

import hashlib
import threading

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_store import Cheap

import mmrec
from mmrec.encoders.presets import read_encoder_specs
from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.indexing import reindex_items
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space
from mmrec.verification.verify import verify_store
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

NAMES = tuple(f"i{n}" for n in range(60))
SCHEMA = pa.schema([("number", pa.int64())])


class Tuned(Cheap):
    """Another space of the same name, in which each text is where another one was."""

    spaces = {Modality.TEXT: (Space("cheap", 16, "d" * 40),)}  # noqa: RUF012

    def encode(self, modality, samples):
        turned = super().encode(modality, samples)["cheap"][:, ::-1]
        return {"cheap": np.ascontiguousarray(-turned)}


class Pictures(Cheap):
    """Pictures by their first pixel."""

    spaces = {Modality.IMAGE: (Space("pixels", 16, "e" * 40),)}  # noqa: RUF012

    def prepare(self, _, content):
        return super().prepare(_, str(content.getpixel((0, 0))))

    def encode(self, modality, samples):
        return {"pixels": super().encode(modality, samples)["cheap"]}


def item(name: str, *more: Field, number: int = 1) -> Item:
    return Item(name, (Field(Modality.TEXT, "title", text=name), *more), {"number": number}, -1)


class Opened(mmrec.Store):
    """A store whose generations name encoders of this file."""

    def _encoders(self, made_with):
        return {"plain": [Cheap()], "tuned": [Tuned()]}[made_with]


def engine_of(layout: Layout) -> mmrec.Store:
    return Opened(layout.root)


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "store")
    how = mmrec.Indexing(encoder_source="plain")
    mmrec.index_items([item(name) for name in NAMES], SCHEMA, layout, [Cheap()], how)
    return layout


def test_no_query_fails_while_a_store_moves_to_another_space_and_back(layout):
    engine, stop, answers, faults = engine_of(layout), threading.Event(), [], []

    def ask() -> None:
        number = 0
        while not stop.is_set():
            name = NAMES[number % len(NAMES)]
            number += 1
            try:
                hit = engine.search(name, k=1)
                answers.append((name, hit.hits[0].id, round(hit.hits[0].score, 3), hit.generation))
            except Exception as error:  # noqa: BLE001 - whatever it is
                faults.append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    made = [1]
    for source, encoder in (("tuned", Tuned()), ("plain", Cheap()), ("tuned", Tuned())):
        made.append(reindex_items(layout, [encoder], mmrec.Indexing(encoder_source=source))[1].number)
        seen = len(answers)
        while len(answers) < seen + 50 and not faults:
            stop.wait(0.01)
    engine.rollback(2)
    seen = len(answers)
    while len(answers) < seen + 50 and not faults:
        stop.wait(0.01)
    stop.set()
    for thread in asking:
        thread.join()
    assert faults == []
    # A text that is answered from a space that it was not encoded into is not its own nearest, or not wholly.
    assert {(name == found, score) for name, found, score, _ in answers} == {(True, 1.0)}
    assert {generation for *_, generation in answers} == set(made)


def test_what_is_added_while_a_store_moves_is_in_the_new_space_too(layout):
    engine, added = engine_of(layout), []

    class Meanwhile(Tuned):
        def encode(self, modality, samples):
            if not added:
                added.append(engine.upsert([item("late")], SCHEMA))
            return super().encode(modality, samples)

    tally, made = reindex_items(layout, [Meanwhile()], mmrec.Indexing(encoder_source="tuned"))
    assert tally.encoded == {"text": len(NAMES)}
    assert engine.search("late", k=1).hits[0].id == "late"
    assert engine.status()["generation"] == made.number
    assert engine.status()["changed_since"] == 0
    assert verify_store(layout, full=True).findings == []


def test_items_keep_rows_metadata_and_digests(layout):
    before = {hit.id: dict(hit.metadata) for hit in engine_of(layout).items()}
    tally, made = reindex_items(layout, [Tuned()], mmrec.Indexing(encoder_source="tuned"))
    assert (tally.added, tally.changed, tally.removed) == (0, 0, 0)
    assert {hit.id: dict(hit.metadata) for hit in engine_of(layout).items()} == before
    assert (made.encoders, made.items) == ("tuned", len(NAMES))


def test_a_move_is_refused_where_a_content_is_out_of_reach(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    layout = Layout(tmp_path / "store")
    uri = str(tmp_path / "red.png")
    items = [item("a", Field(Modality.IMAGE, "picture", uri=uri)), item("b")]
    how = mmrec.Indexing(encoder_source="plain")
    mmrec.index_items(items, SCHEMA, layout, [Cheap(), Pictures()], how)
    (tmp_path / "red.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 3 contents .*'a': .*red\.png is out of reach"):
        reindex_items(layout, [Tuned(), Pictures()], how)
    assert mmrec.open(layout.root, encoders=[Cheap(), Pictures()]).search("b", k=1).hits[0].id == "b"


def test_a_move_is_refused_where_the_store_lacks_a_text(tmp_path):
    layout = Layout(tmp_path / "store")
    two = item("a", Field(Modality.TEXT, "remark", text="b"))
    mmrec.index_items([two], SCHEMA, layout, [Cheap()], mmrec.Indexing())
    with pytest.raises(UsageError, match="the store keeps only the first of its 2 texts"):
        reindex_items(layout, [Tuned()], mmrec.Indexing())


def test_an_empty_store_has_nothing_to_move(tmp_path):
    layout = Layout(tmp_path / "store")
    layout.create()
    with pytest.raises(UsageError, match="has no item to encode"):
        reindex_items(layout, [Tuned()], mmrec.Indexing())


def test_a_query_of_another_space_is_refused_with_both_named(layout):
    reindex_items(layout, [Tuned()], mmrec.Indexing(encoder_source="tuned"))
    plain = mmrec.open(layout.root, encoders=[Cheap()])
    with pytest.raises(
        SpaceMismatchError, match=r"cheap \(c{12}\).*cheap \(d{12}\).*'tuned'.*--encoders.*mmrec reindex"
    ):
        plain.search("i1")
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in layout.generations.rglob("vectors.npy")}
    assert len(digests) == 2


def test_a_forgotten_store_and_a_folder_too_high_are_told(tmp_path, capsys):
    (tmp_path / "shop.csv").write_text("id,title\na,red shoes\n")
    assert run_app(app, ["index", str(tmp_path / "shop.csv")]) == ExitCode.USAGE
    assert "'STORE'" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "tuned" / "encoders").mkdir(parents=True)
    (tmp_path / "tuned" / "encoders" / "encoders.toml").write_text("")
    with pytest.raises(UsageError, match="its folder encoders does"):
        read_encoder_specs(tmp_path / "tuned")
