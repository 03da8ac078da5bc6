"""The whole job, with the real encoders: what is computed, what is kept, what is refused."""

import json
import os
import threading

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

import mmrec
from indexers import IndexSpec
from mmrec.errors import StoreError, UnknownIdError, UsageError
from mmrec.query import Part
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality

COLUMNS = ColumnSpec("id", ("title",), ("picture",), ("sound",), ("shelf", "price"))
WORDS = ("apple", "boat", "cat", "drum", "engine", "flower", "guitar", "house", "island", "jacket", "kite", "lamp")


class Shop:
    """A catalog on disk that tests change as a shop would."""

    def __init__(self, folder, encoders):
        self.folder = folder
        self.encoders = encoders
        self.layout = Layout(folder / "store")
        self.rows = {
            word: {"id": word, "title": f"a {word}", "shelf": "abc"[n % 3], "price": n} for n, word in enumerate(WORDS)
        }
        for n, word in enumerate(WORDS[:6]):
            self.paint(word, n)
        for n, word in enumerate(WORDS[4:8]):
            self.sound(word, 200 * (n + 1))

    def paint(self, word, seed):
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        path = self.folder / f"{word}.png"
        Image.fromarray(pixels).resize((64, 64)).save(path)
        self.rows[word]["picture"] = path.name

    def sound(self, word, hertz):
        path = self.folder / f"{word}.wav"
        soundfile.write(path, 0.5 * np.sin(np.arange(16000) * 2 * np.pi * hertz / 16000), 16000)
        self.rows[word]["sound"] = path.name

    def index(self, **how):
        catalog = self.folder / "catalog.jsonl"
        catalog.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))
        source = open_source(catalog, COLUMNS)
        return mmrec.index_items(source, source.metadata_schema, self.layout, self.encoders, mmrec.Indexing(**how))

    def open(self):
        return mmrec.open(self.layout.root, encoders=self.encoders)


@pytest.fixture
def shop(tmp_path, packaged):
    return Shop(tmp_path, packaged)


def work(tally):
    return {"read": tally.read, **{str(name): count for name, count in tally.encoded.items() if count}}


def test_a_second_run_reads_and_encodes_nothing(shop):
    first, made = shop.index()
    assert work(first) == {"read": 10, "text": 12, "image": 6, "audio": 4}
    assert (first.added, first.changed, first.removed, first.quarantined) == (12, 0, 0, 0)
    assert made.items == 12
    assert made.checks == {"self_query": 1.0, "recall": 1.0}
    second, same = shop.index()
    assert work(second) == {"read": 0}
    assert (second.added, second.changed, second.removed) == (0, 0, 0)
    assert same.number == made.number


def test_ten_changes_encode_exactly_those(shop):
    shop.index()
    for word in ("apple", "boat"):
        shop.rows[word]["title"] = f"a new {word}"  # 2 texts edited
    shop.paint("cat", 77)  # 1 picture edited
    for word in ("kite", "lamp"):
        del shop.rows[word]  # 2 deleted
    for word in ("moon", "nail"):
        shop.rows[word] = {"id": word, "title": f"a {word}"}  # 2 added
    shop.rows["drum"]["price"] = 1000  # metadata alone
    shop.rows = dict(reversed(shop.rows.items()))  # and all reordered
    tally, made = shop.index()
    assert work(tally) == {"read": 1, "text": 4, "image": 1}
    assert (tally.added, tally.changed, tally.removed) == (2, 4, 2)
    assert made.items == 12
    engine = shop.open()
    assert engine.search("a new boat", k=1).hits[0].id == "boat"
    assert engine.show("drum").metadata["price"] == 1000
    with pytest.raises(UnknownIdError, match="kite"):
        engine.show("kite")


def test_a_store_that_grew_equals_a_fresh_one(shop, tmp_path):
    shop.index()
    shop.rows["apple"]["title"] = "a pear"
    del shop.rows["boat"]
    shop.index(refit=True)
    again = mmrec.Indexing(refit=True)
    source = open_source(shop.folder / "catalog.jsonl", COLUMNS)
    other = Layout(tmp_path / "other")
    mmrec.index_items(source, source.metadata_schema, other, shop.encoders, again)
    grown, fresh = shop.open(), mmrec.open(other.root, encoders=shop.encoders)
    for word in shop.rows:
        one, two = grown.similar(word, k=11), fresh.similar(word, k=11)
        assert {hit.id: pytest.approx(hit.score, abs=1e-3) for hit in two.hits} == {h.id: h.score for h in one.hits}


def test_equal_contents_are_encoded_once(shop):
    for n in range(20):
        shop.rows[f"copy{n}"] = {"id": f"copy{n}", "title": "a boat", "picture": "boat.png"}
    tally, _ = shop.index()
    assert tally.encoded == {"text": 12, "image": 6, "audio": 4}
    top = shop.open().search("a boat", against=["text"], k=21)
    assert {hit.id for hit in top.hits} == {"boat", *(f"copy{n}" for n in range(20))}


def test_a_bad_picture_costs_nothing_but_itself_and_is_not_tried_again(shop):
    (shop.folder / "boat.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    shop.rows["ghost"] = {"id": "ghost", "picture": "missing.png"}
    shop.rows["broken"] = {"id": "broken", "picture": "boat.png"}
    tally, made = shop.index()
    assert tally.quarantined == 3
    assert made.items == 12
    engine = shop.open()
    entries = {(entry.id, entry.column): entry.reason for entry in engine.quarantined()}
    assert set(entries) == {("boat", "picture"), ("ghost", "picture"), ("broken", "picture")}
    assert engine.search("a boat", k=1).hits[0].id == "boat"
    again, same = shop.index()
    assert work(again) == {"read": 0}
    assert again.quarantined == 3
    assert same.number == made.number
    shop.paint("boat", 33)
    mended, _ = shop.index()
    assert mended.encoded["image"] == 1
    assert mended.quarantined == 1
    assert {entry.id for entry in shop.open().quarantined()} == {"ghost"}


def test_a_touched_file_is_read_but_not_encoded(shop):
    shop.index()
    os.utime(shop.folder / "apple.png", (1, 1))
    tally, _ = shop.index()
    assert work(tally) == {"read": 1}


def test_zero_weight_is_never_encoded_nor_read(shop):
    tally, made = shop.index(weights={Modality.IMAGE: 0.0, Modality.AUDIO: 0.0})
    assert work(tally) == {"read": 0, "text": 12}
    assert set(made.contents) == {"minilm.text"}
    more, _ = shop.index(weights={Modality.AUDIO: 0.0})
    assert work(more) == {"read": 6, "image": 6}
    kept, made = shop.index()
    assert work(kept) == {"read": 0}
    assert made.weights["audio"] == 0.0


def test_an_interrupted_run_keeps_its_vectors(shop):
    def stop(tally):
        if tally.seen >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.index(report=stop)
    with pytest.raises(StoreError, match="no generation yet"):
        shop.open().search("a boat")
    tally, made = shop.index()
    assert made.items == 12
    assert list(shop.layout.staging.iterdir()) == []
    assert tally.added == 12


def test_deleted_items_are_gone_at_once_and_upserted_ones_there(shop):
    shop.index()
    engine = shop.open()
    assert engine.delete(["apple", "nothing"]) == 1
    assert "apple" not in {hit.id for hit in engine.search("a apple", k=12).hits}
    new = Item("zebra", (Field(Modality.TEXT, "title", text="a striped zebra"),), {"shelf": "z", "price": 5})
    changed = Item("cat", (Field(Modality.TEXT, "title", text="a grand piano"),), {"shelf": "p", "price": 6})
    tally = engine.upsert([new, changed])
    assert (tally.added, tally.changed, tally.removed) == (1, 1, 0)
    assert engine.search("a striped zebra", k=1).hits[0].id == "zebra"
    assert engine.search("grand piano", against=["text"], k=1).hits[0].id == "cat"
    assert engine.search("a animal", where="shelf = 'z'").hits[0].id == "zebra"
    assert engine.status()["changed_since"] == 2
    assert len(engine.search("anything", k=100).hits) == 12


def test_rollback_brings_an_older_generation_back_but_not_what_was_deleted(shop):
    shop.index()
    shop.rows["apple"]["title"] = "a tuba"
    del shop.rows["boat"]
    shop.index()
    engine = shop.open()
    assert [made.number for made in engine.generations()] == [1, 2]
    assert engine.rollback() == 1
    results = engine.search("a tuba", k=12)
    assert results.generation == 1
    assert results.hits[0].id == "apple"
    assert "boat" not in {hit.id for hit in results.hits}
    with pytest.raises(UsageError, match=r"there are \[1, 2\]"):
        engine.rollback(7)


def test_a_damaged_generation_is_refused_and_says_what_to_do(shop):
    shop.index()
    shop.index(refit=True)
    index = shop.layout.generations / "2" / "index.faiss"
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    index.write_bytes(data)
    engine = shop.open()
    with pytest.raises(StoreError, match="mmrec rollback"):
        engine.search("a boat")
    assert engine.rollback() == 1
    assert engine.search("a boat", k=1).hits[0].id == "boat"


def test_queries_that_cannot_be_answered_say_so(shop):
    shop.index()
    engine = shop.open()
    with pytest.raises(UnknownIdError, match="no item 'nobody'"):
        engine.similar("nobody")
    with pytest.raises(UsageError, match="cancel out"):
        engine.search([Part("text", "a boat"), Part("text", "a boat", -1.0)])
    with pytest.raises(UsageError, match="no vector for audio"):
        engine.similar("apple", against=["audio"])
    with pytest.raises(UsageError, match="at least one"):
        engine.search([])
    with pytest.raises(UsageError, match="k must be"):
        engine.search("boat", k=0)
    assert engine.search("boat", where="price > 1000").hits == ()


def test_against_leaves_out_items_without_that_modality(shop):
    shop.index()
    engine = shop.open()
    assert {hit.id for hit in engine.search("a cat", against=["image"], k=50).hits} == set(WORDS[:6])
    assert {hit.id for hit in engine.search("a cat", against=["audio"], k=50).hits} == set(WORDS[4:8])
    for hit in engine.similar("engine", k=5).hits:
        assert hit.score == pytest.approx(sum(hit.shares.values()), abs=1e-4)


@pytest.mark.slow
def test_readers_are_undisturbed_while_a_job_publishes(shop):
    shop.index()
    engine = shop.open()
    failures, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                results = engine.search("a boat", k=3)
                assert results.hits[0].id == "boat"
            except Exception as error:  # noqa: BLE001 - every failure counts
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(4):
        shop.rows["apple"]["title"] = f"a tree number {n}"
        shop.index(refit=n % 2 == 0)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert engine.search("a boat").generation == 5


def test_a_store_may_not_name_code_to_run(shop):
    shop.index(encoder_source="mine.toml")
    with pytest.raises(StoreError, match=r"'mine\.toml'.*may not choose code to run.*--encoders"):
        mmrec.open(shop.layout.root).search("a boat")


def test_a_price_with_cents_does_not_lock_the_store(shop):
    shop.index()
    shop.rows["apple"]["price"] = 7.5
    tally, made = shop.index()
    assert made.items == 12
    assert not tally.encoded
    engine = shop.open()
    assert engine.show("apple").metadata["price"] == 7.5
    assert {hit.id for hit in engine.search("a boat", where="price > 7 AND price < 8").hits} == {"apple"}


def test_an_emptied_source_does_not_empty_the_store(shop):
    shop.index()
    whole = dict(shop.rows)
    shop.rows = {"engine": shop.rows["engine"]}
    with pytest.raises(UsageError, match=r"remove 11 of the store's 12 items.*--prune"):
        shop.index()
    assert shop.open().status()["items"] == 12
    tally, made = shop.index(prune=True)
    assert (tally.removed, made.items) == (11, 1)
    shop.rows = whole
    back, _ = shop.index()
    assert not back.encoded


def test_words_of_python_are_checked(shop):
    shop.index()
    engine = shop.open()
    assert engine.search("a cat", against="image", k=1).hits[0].id in WORDS[:6]
    for wrong in ("picture", [], ["text", "smell"]):
        with pytest.raises(UsageError, match="allowed are text, image, audio"):
            engine.search("a cat", against=wrong)
    assert engine.delete("apple") == 1


def test_a_generation_that_is_missing_is_rolled_back(shop):
    shop.index()
    shop.index(refit=True)
    (shop.layout.generations / "2").rename(shop.layout.generations / "lost")
    engine = shop.open()
    with pytest.raises(StoreError, match="mmrec rollback"):
        engine.search("a boat")
    assert engine.rollback() == 1
    assert engine.search("a boat", k=1).hits[0].id == "boat"


def test_an_index_recipe_is_kept_until_told_otherwise(shop):
    """A person's choice outlives later runs; what nobody chose is chosen by size."""
    _, made = shop.index(index=IndexSpec("IVF1,SQ8", "ip", {"nprobe": 1}))
    assert (made.index_factory, made.index_search, made.index_given) == ("IVF1,SQ8", {"nprobe": 1}, True)
    _, same = shop.index()
    assert same.number == made.number
    shop.rows.pop("lamp")
    _, kept = shop.index()
    assert kept.number != made.number
    assert (kept.index_factory, kept.index_search, kept.index_given) == ("IVF1,SQ8", {"nprobe": 1}, True)
    assert shop.open().similar("apple", k=3).hits
    _, chosen = shop.index(choose_index=True)
    assert (chosen.index_factory, chosen.index_given) == ("Flat", False)
    _, limited = shop.index(index_memory=10**9)
    assert (limited.index_factory, limited.index_memory) == ("Flat", 10**9)
    _, again = shop.index()
    assert again.number == limited.number
    with pytest.raises(UsageError, match="Allowed are recipes like"):
        shop.index(index=IndexSpec("nonsense", "ip"))
    assert shop.index()[1].number == limited.number


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (IndexSpec("nonsense", "ip"), "'nonsense'.*Allowed are recipes like"),
        (IndexSpec("PQ7x4fs", "ip"), "'PQ7x4fs' for 512 dimensions.*Allowed are recipes like"),
        (IndexSpec("IVF8,Flat", "ip", {"efSearch": 3}), "efSearch=3 was given.*nprobe"),
        (IndexSpec("IVF8,Flat", "ip", {"nprobe": 0}), "nprobe=0 was given"),
    ],
)
def test_an_index_that_cannot_be_is_refused_before_the_source_is_read(shop, spec, words):
    """An hour of encoding must not end in words about a recipe."""

    def source():
        pytest.fail("the source was read")
        yield

    with pytest.raises(UsageError, match=f"{words}.*Nothing was read yet"):
        mmrec.index_items(source(), pa.schema([]), shop.layout, shop.encoders, mmrec.Indexing(index=spec))
