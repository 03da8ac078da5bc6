"""Stores, towers and fine-tuned encoders of earlier formats open, answer as they did, and go on living."""

import json
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmrec
from mmrec import Event, Field, Item, Modality

MADE = Path(__file__).with_name("v1")
EXPECTED = json.loads((MADE / "expected.json").read_text(encoding="utf-8"))
CLOSE = 2e-3
"""Between scores of one store on other machines and versions of torch."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    for path in sorted(MADE.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    return folder


def assert_alike(found, expected) -> None:
    """The same scores from the first on, and the same items but for those that tie."""
    scores = [hit.score for hit in found]
    assert scores == pytest.approx([score for _, score in expected], abs=CLOSE)
    last = expected[-1][1]
    for (item, score), hit in zip(expected, found, strict=True):
        if score > last + CLOSE:
            near = [other.id for other in found if abs(other.score - score) <= 2 * CLOSE]
            assert item in near, (item, hit.id)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_earlier_store_answers_as_it_did(unpacked, name):
    expected = EXPECTED[name]
    with mmrec.open(unpacked / name, device="cpu") as store:
        for asked, hits in expected.items():
            if asked.startswith("search --text "):
                assert_alike(store.search(asked.removeprefix("search --text "), k=10), hits)
        where = "price < 50 and sold = true"
        assert_alike(store.search("a red apple", where=where, k=10), expected["search --where"])
        assert_alike(store.search("a red apple", against="image", k=10), expected["search --against image"])
        for item, hits in expected["similar"].items():
            assert_alike(store.similar(item, k=10), hits)
        listed = store.recommend(history=["item-00", "item-08", "item-16"], k=10)
        wanted = {item for item, _ in expected["recommend --history"]}
        assert len(wanted & {hit.id for hit in listed}) >= 7  # popularity fades with time
        assert store.status()["items"] == expected["items"]
        assert sorted(entry.id for entry in store.quarantined()) == expected["quarantined"]
        assert store.verify(full=True).sound


def test_an_earlier_store_goes_on_living(unpacked, tmp_path):
    shutil.copytree(unpacked / "shop", tmp_path / "shop")
    with mmrec.open(tmp_path / "shop", device="cpu") as store:
        count = len(store.events)
        assert count == 400
        assert store.recommend("user-03").model == "tower"
        text = Field(Modality.TEXT, "title", text="a violet harpsichord")
        store.upsert([Item("newest", (text,), {"price": 3.0})])
        assert store.search("a violet harpsichord", k=1).hits[0].id == "newest"
        store.events.add(Event("user-03", "newest", "like", datetime.now(UTC)))
        assert len(store.events) == count + 1
        config = mmrec.TrainingConfig(
            device="cpu", epochs=1, tower={"dim": 16, "width": 16, "inner": 16, "layers": 1, "window": 20}
        )
        store.train(config)
        assert store.recommend("user-03").model == "tower"
        before = [one.number for one in store.generations()]
        assert store.rollback() == before[-2]
        assert store.verify().sound


def test_earlier_fine_tuned_encoders_load(unpacked):
    encoders = mmrec.load_encoders(unpacked / "tuned" / "encoders", device="cpu")
    spaces = mmrec.load_encoders("packaged", device="cpu")
    names = {space.name for encoder in encoders for some in encoder.spaces.values() for space in some}
    assert names > {space.name for encoder in spaces for some in encoder.spaces.values() for space in some}
    image = next(one for one in encoders if Modality.IMAGE in one.spaces)
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    made = image.encode(Modality.IMAGE, [image.prepare(Modality.IMAGE, pixels)])
    assert all(np.isfinite(vectors).all() for vectors in made.values())


@pytest.mark.parametrize("name", ["index.faiss", "fusion", "manifest.json", "tower"])
def test_a_damaged_file_of_an_earlier_store_is_told(unpacked, tmp_path, name):
    shutil.copytree(unpacked / "shop", tmp_path / "shop")
    newest = max((tmp_path / "shop" / "generations").iterdir(), key=lambda folder: int(folder.name))
    found = [path for path in newest.rglob("*") if path.is_file() and name in str(path.relative_to(newest))]
    assert found, sorted(str(path.relative_to(newest)) for path in newest.rglob("*"))
    largest = max(found, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)
    with mmrec.open(tmp_path / "shop", device="cpu") as store, pytest.raises(mmrec.MmrecError, match="damaged"):
        store.recommend(history=["item-00"])
