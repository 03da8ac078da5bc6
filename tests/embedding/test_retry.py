"""What was left out is tried again without its source."""

import copy
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import mmrec
from mmrec.embedding.retry import items_to_retry
from mmrec.encoders.packaged.efficientnet_lite import EfficientNetLite0
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Reject

COLUMNS = ColumnSpec("id", ("title",), ("picture",), (), ("price", "since"))
RETRY = mmrec.Indexing(retry=True)


class Shop:
    """Twelve items with titles and pictures, and some that lack the one or the other."""

    def __init__(self, folder, encoders):
        self.folder, self.encoders, self.layout = folder, encoders, Layout(folder / "store")
        self.rows = {
            f"i{n}": {"id": f"i{n}", "title": f"number {n}", "picture": f"i{n}.png", "price": n, "since": "2024-01-31"}
            for n in range(12)
        }
        for n in range(12):
            self.paint(n)

    def paint(self, n):
        pixels = np.random.default_rng(n).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48)).save(self.folder / f"i{n}.png")

    def index(self, **how):
        catalog = self.folder / "catalog.jsonl"
        catalog.write_text("".join(json.dumps(row) + "\n" for row in self.rows.values()))
        source = open_source(catalog, COLUMNS)
        return mmrec.index_items(source, source.metadata_schema, self.layout, self.encoders, mmrec.Indexing(**how))

    def retry(self):
        schema = ItemTable(self.layout.items).metadata_schema
        return mmrec.index_items(items_to_retry(self.layout), schema, self.layout, self.encoders, RETRY)

    def entries(self):
        return {(one.id, one.column): one for one in mmrec.open(self.layout.root).quarantined()}


@pytest.fixture
def shop(tmp_path, packaged):
    return Shop(tmp_path, packaged[:2])


def test_files_that_are_there_again_are_taken_in_and_the_rest_stays_left_out(shop):
    for n in (1, 2, 3, 4):
        (shop.folder / f"i{n}.png").rename(shop.folder / f"i{n}.away")
    (shop.folder / "i5.png").write_bytes(b"not a picture")
    for name in ("i3", "i4"):
        del shop.rows[name]["title"]  # nothing is left of these
    shop.rows["twice"] = dict(shop.rows["i0"])
    first, _ = shop.index()
    assert first.quarantined == 6
    for n in (1, 3):
        (shop.folder / f"i{n}.away").rename(shop.folder / f"i{n}.png")
    shop.paint(5)
    (shop.folder / "catalog.jsonl").unlink()
    tally, made = shop.retry()
    assert (tally.seen, tally.added, tally.changed, tally.removed) == (5, 1, 2, 0)
    assert set(shop.entries()) == {("i2", "picture"), ("i4", "picture"), ("i0", "id")}
    engine = mmrec.open(shop.layout.root, encoders=shop.encoders)
    assert made.items == engine.status()["items"] == 11
    back = engine.show("i3")
    assert back.metadata["price"] == 3
    assert str(back.metadata["since"]) == "2024-01-31"
    for name in ("i1", "i3", "i5"):
        assert engine.similar(name, against=["image"], k=1).hits
    assert engine.show("i1").text == "number 1"
    again, same = shop.retry()
    assert (again.seen, again.added, again.changed, same.number) == (2, 0, 0, made.number)
    assert sum(again.encoded.values()) == 0


def test_a_retried_store_equals_one_that_was_indexed_when_all_was_there(shop, tmp_path):
    (shop.folder / "i1.png").rename(shop.folder / "i1.away")
    shop.index()
    (shop.folder / "i1.away").rename(shop.folder / "i1.png")
    shop.retry()
    fresh = copy.copy(shop)
    fresh.layout = Layout(tmp_path / "fresh")
    fresh.index(refit=True)
    stored = [ItemTable(one.layout.items).by_id(["i1"])["i1"] for one in (shop, fresh)]
    assert {one.hash for one in stored[0].fields} == {one.hash for one in stored[1].fields}
    assert stored[0].metadata == stored[1].metadata
    tally, _ = shop.index()
    assert (tally.read, sum(tally.encoded.values()), tally.removed) == (0, 0, 0)


def test_an_item_whose_good_files_are_out_of_reach_is_left_as_it_is(shop):
    shop.rows["i0"]["picture"] = "missing.png"
    shop.rows["i1"]["title"] = "one"
    shop.index()
    before = ItemTable(shop.layout.items).by_id(list(shop.rows))
    for n in range(1, 12):
        (shop.folder / f"i{n}.png").rename(shop.folder / f"i{n}.away")
    tally, _ = shop.retry()
    assert tally.removed == tally.changed == 0
    assert ItemTable(shop.layout.items).by_id(list(shop.rows)) == before


def test_rows_that_are_no_items_need_their_source(tmp_path, packaged):
    layout = Layout(tmp_path / "store")
    source = [
        Item("good", (Field(Modality.TEXT, "title", text="a boat"),), {}, 0),
        Reject(1, None, "", "The id is missing."),
        Reject(2, "bad", "picture", "The path is not one."),
    ]
    mmrec.index_items(source, pa.schema([]), layout, packaged[:1], mmrec.Indexing())
    assert list(items_to_retry(layout)) == []
    tally, _ = mmrec.index_items([], pa.schema([]), layout, packaged[:1], RETRY)
    assert tally.removed == 0
    assert len(mmrec.open(layout.root).quarantined()) == 2


class Stumbling(EfficientNetLite0):
    """Runs out of memory until told otherwise, as a GPU shared with others does."""

    stumbles = True

    def embed(self, modality, samples):
        if self.stumbles:
            raise RuntimeError("out of memory")
        return super().embed(modality, samples)


def test_a_picture_that_an_encoder_failed_on_is_tried_again_with_what_its_item_was(tmp_path, packaged):
    layout = Layout(tmp_path / "store")
    schema = pa.schema([("since", pa.timestamp("us", "UTC"))])
    since = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    items = [
        Item("text", (Field(Modality.TEXT, "title", text="a boat"),), {"since": None}, 0),
        Item("red", (Field(Modality.IMAGE, "picture", uri=str(tmp_path / "red.png")),), {"since": since}, 1),
    ]
    encoders = [packaged[0], Stumbling()]
    tally, made = mmrec.index_items(items, schema, layout, encoders, mmrec.Indexing())
    assert (tally.quarantined, made.items) == (1, 1)
    Stumbling.stumbles = False
    tally, made = mmrec.index_items(items_to_retry(layout), schema, layout, encoders, RETRY)
    assert (tally.added, made.items, tally.quarantined) == (1, 2, 0)
    engine = mmrec.open(layout.root, encoders=encoders)
    assert engine.show("red").metadata == {"since": since}
    assert [hit.id for hit in engine.similar("red", against=["image"]).hits] == []
    assert engine.vectors(["red"]).any()


@pytest.mark.slow
def test_the_command_retries_and_lists(shop):
    shutil.move(shop.folder / "i1.png", shop.folder / "i1.away")
    (shop.folder / "i2.png").unlink()
    shop.index()
    store = str(shop.layout.root)

    def mmrec_command(*arguments):
        code = "import sys; from pipelines.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    listed = json.loads(mmrec_command("quarantine", store, "--json"))["quarantined"]
    assert [(one["row"], one["id"], one["column"]) for one in listed] == [(2, "i1", "picture"), (3, "i2", "picture")]
    assert datetime.fromisoformat(listed[0]["when"]).tzinfo
    shutil.move(shop.folder / "i1.away", shop.folder / "i1.png")
    told = json.loads(mmrec_command("quarantine", store, "--retry", "--json", "--device", "cpu"))
    assert {name: told[name] for name in ("before", "tried", "recovered", "quarantined", "need_the_source")} == {
        "before": 2,
        "tried": 2,
        "recovered": 1,
        "quarantined": 1,
        "need_the_source": 0,
    }
    assert "i2" in mmrec_command("quarantine", store, "--limit", "1")
