"""What a run finds, and what others do to the same items meanwhile: quarantine tells of the items as they are."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_store import Cheap

import mmrec
from mmrec.embedding import commit
from mmrec.embedding.retry import items_to_retry
from mmrec.encoders.protocol import Sample
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Reject, Space

SCHEMA = pa.schema([])
WHOLE = {}
DELTA = {"changes_only": True}
KEEPING = {"keep_missing": True}


def item(name, remark=None, title=None):
    fields = [Field(Modality.TEXT, "title", text=title or name)]
    fields += [Field(Modality.TEXT, "remark", text=remark)] if remark else []
    return Item(name, tuple(fields), {}, 1)


class Shop:
    """A store, and a source during which others change it."""

    def __init__(self, root):
        self.layout = Layout(root)

    @property
    def engine(self):
        return mmrec.open(self.layout.root, encoders=[Cheap()])

    def index(self, rows, meanwhile=lambda _: None, **how):
        def source():
            yield from rows
            meanwhile(self.engine)

        return mmrec.index_items(source(), SCHEMA, self.layout, [Cheap()], mmrec.Indexing(**how))[0]

    @property
    def entries(self):
        return sorted((one.id, one.column) for one in self.engine.quarantined())


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / "store")
    made.index([item(name) for name in "abcdef"])
    return made


@pytest.fixture(params=["few", "many"], autouse=True)
def few(request, monkeypatch):
    """Quarantine is changed where it must, or written anew."""
    if request.param == "many":
        monkeypatch.setattr(commit, "MAX_TRACKED_IDS", 0)


ALL = [item(name) for name in "bcdef"]


@pytest.mark.parametrize("how", [WHOLE, DELTA, KEEPING])
def test_what_ails_a_newer_item_is_told(shop, how):
    shop.index([item("a", title="new"), *ALL], lambda engine: engine.upsert([item("a", "cannot", "newer")]), **how)
    assert shop.engine.show("a").text == "newer"
    assert shop.entries == [("a", "remark")]


@pytest.mark.parametrize("how", [WHOLE, DELTA, KEEPING])
def test_what_ailed_an_older_item_is_not(shop, how):
    tally = shop.index(
        [item("a", "cannot", "new"), *ALL], lambda engine: engine.upsert([item("a", None, "newer")]), **how
    )
    assert shop.engine.show("a").text == "newer"
    assert shop.entries == []
    assert tally.quarantined == 0


@pytest.mark.parametrize("how", [WHOLE, DELTA, KEEPING])
def test_nothing_ails_an_item_that_was_deleted(shop, how):
    shop.index([item("a", "cannot", "new"), *ALL], lambda engine: engine.delete(["a"]), **how)
    assert shop.engine.status()["items"] == 5
    assert shop.entries == []


@pytest.mark.parametrize("how", [DELTA, KEEPING])
def test_a_row_that_is_no_item_says_nothing_of_the_item_of_its_id(shop, how):
    shop.index([item("a", "cannot"), *ALL])
    assert shop.entries == [("a", "remark")]
    for reason in ("The path is not one.", "The price is not one."):
        shop.index([*ALL, Reject(9, "a", "", reason)], **how)
        assert shop.entries == [("a", ""), ("a", "remark")]
    assert {one.reason for one in shop.engine.quarantined() if not one.column} == {"The price is not one."}
    shop.index([item("a"), *ALL], **how)
    assert shop.entries == []


@pytest.mark.parametrize("how", [WHOLE, DELTA, KEEPING])
def test_a_second_row_of_an_id_stays_told_whatever_became_of_the_first(shop, how):
    shop.index([item("a"), item("a"), *ALL], lambda engine: engine.upsert([item("a", "cannot", "newer")]), **how)
    assert shop.entries == [("a", ""), ("a", "remark")]


class Sights(Cheap):
    """Pictures by hash too."""

    spaces = {Modality.TEXT: Cheap.spaces[Modality.TEXT], Modality.IMAGE: (Space("sights", 16, "d" * 40),)}  # noqa: RUF012

    def prepare(self, modality, content):
        return (
            Sample(np.array([content.tobytes().hex()]), 1)
            if modality is Modality.IMAGE
            else super().prepare(modality, content)
        )

    def encode(self, modality, samples):
        vectors = super().encode(modality, samples)["cheap"]
        return {"sights" if modality is Modality.IMAGE else "cheap": vectors}


def test_a_retry_loses_no_picture_that_was_given_by_itself(tmp_path):
    layout = Layout(tmp_path / "store")
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "PNG")
    mmrec.index_items([item("b")], SCHEMA, layout, [Sights()], mmrec.Indexing())
    engine = mmrec.open(layout.root, encoders=[Sights()])
    fields = (
        Field(Modality.TEXT, "title", text="a"),
        Field(Modality.IMAGE, "front", data=drawn.getvalue()),
        Field(Modality.IMAGE, "back", uri=str(tmp_path / "missing.png")),
    )
    engine.upsert([Item("a", fields, {}, 1)])
    before = engine.show("a")
    assert [one.column for one in engine.quarantined()] == ["back"]
    mmrec.index_items(items_to_retry(layout), SCHEMA, layout, [Sights()], mmrec.Indexing(retry=True))
    assert mmrec.open(layout.root, encoders=[Sights()]).show("a") == before
    assert [one.column for one in engine.quarantined()] == ["back"]
