"""Everything that the command line does, by `import mmrec` alone."""

import ast
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import mmrec
from mmrec import Event, Field, Item, Modality, Part

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("apple", "bird", "boat", "drum")


def pixels(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8))


def tone(number: int) -> np.ndarray:
    return np.sin(np.arange(12_000) * (0.02 + 0.01 * number)).astype(np.float32)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("facade")
    with (folder / "catalog.jsonl").open("w") as file:
        for n in range(32):
            row = {"id": f"i{n}", "title": f"a {KINDS[n % 4]} of make {n}", "kind": KINDS[n % 4], "price": n}
            if n % 4 == 0:
                row["picture"] = f"{n}.png"
                pixels(n).save(folder / f"{n}.png")
            if n % 8 == 0:
                row["sound"] = f"{n}.wav"
                soundfile.write(folder / f"{n}.wav", tone(n), 16_000)
            file.write(json.dumps(row) + "\n")
    with mmrec.create(folder / "shop") as store:
        made = store.index(
            folder / "catalog.jsonl", id="id", text="title", image="picture", audio="sound", metadata=["kind", "price"]
        )
        assert made.items == made.added == 32
        assert made.encoded == {"text": 32, "image": 8, "audio": 4}
        again = store.index(
            folder / "catalog.jsonl", id="id", text="title", image="picture", audio="sound", metadata=["kind", "price"]
        )
        assert not any(again.encoded.values())
    return folder


def test_a_query_has_parts_of_every_kind(shop):
    with mmrec.open(shop / "shop") as store:
        png, wav = (shop / "8.png").read_bytes(), (shop / "8.wav").read_bytes()
        waveform = soundfile.read(io.BytesIO(wav), dtype="float32")[0]
        for image in (shop / "8.png", str(shop / "8.png"), png, Image.open(shop / "8.png")):
            assert store.search(Part.image(image), against="image", k=1).hits[0].id == "i8"
        for audio in (shop / "8.wav", str(shop / "8.wav"), wav, (waveform, 16_000)):
            assert store.search(Part.audio(audio), against="audio", k=1).hits[0].id == "i8"
        assert store.search("a bird of make 5", k=1).hits[0].id == "i5"
        assert store.search([Part.item("i5"), Part.text("drum", 0.2)], k=3, where="kind = 'bird'").hits[0].id != "i5"
        assert store.search(Part.vector(store.vectors(["i5"])[0]), k=1).hits[0].id == "i5"
        assert store.similar("i5", k=4)
        texts = [f"a {KINDS[n % 4]} of make {n}" for n in range(4)]
        assert [found.hits[0].id for found in store.search_many(texts, k=1)] == ["i0", "i1", "i2", "i3"]
        table = store.search("a boat", k=5).to_pandas()
        assert list(table["id"]) == [hit.id for hit in store.search("a boat", k=5)]
        assert {"score", "text", "kind", "price"} <= set(table.columns)
        with pytest.raises(mmrec.MmrecError, match="no space 'nothing'"):
            store.search(Part.vector([1.0, 2.0], space="nothing"))
        with pytest.raises(mmrec.MmrecError, match="2 dimensions"):
            store.search(Part.vector([1.0, 2.0]))


def test_a_vector_of_a_space_finds_what_its_content_finds(shop):
    encoder = next(one for one in mmrec.load_encoders("packaged", device="cpu") if Modality.TEXT in one.spaces)
    space = encoder.spaces[Modality.TEXT][0]
    sample = encoder.prepare(Modality.TEXT, "a bird of make 5")
    vector = encoder.encode(Modality.TEXT, [sample])[space.name][0]
    with mmrec.open(shop / "shop") as store:
        found = store.search(Part.vector(vector, space=space.name), against="text", k=3)
        assert [hit.id for hit in found] == [hit.id for hit in store.search("a bird of make 5", against="text", k=3)]


def test_items_come_and_go(shop):
    with mmrec.open(shop / "shop") as store:
        text = Field(Modality.TEXT, "title", text="a violin of make 99")
        store.upsert([Item("new", (text,), {"kind": "violin", "price": 5})])
        assert store.search("a violin of make 99", k=1).hits[0].id == "new"
        assert store.delete("new") == 1
        assert store.search("a violin of make 99", k=1).hits[0].id != "new"
        assert not list(store.quarantined())


def test_a_store_learns_is_judged_and_moved(shop):
    start = datetime.now(UTC) - timedelta(days=20)
    with mmrec.open(shop / "shop") as store:
        walks = [
            Event(f"u{n % 16}", f"i{(4 * (n // 16 * 7 % 8) + n % 4) % 32}", "like", start + timedelta(hours=n))
            for n in range(320)
        ]
        assert store.events.add(walks).added == 320
        assert len(store.events) == 320
        assert store.events.stats()["events"] == 320
        found = store.recommend(user="u1", k=5)
        assert len(found) == 5
        assert found.events
        assert list(found.to_pandas()["id"]) == [hit.id for hit in found]
        assert store.events.export(shop / "events.jsonl") == 320
        assert store.events.import_file(shop / "events.jsonl")["added"] == 0
        config = mmrec.TrainingConfig(
            device="cpu", epochs=2, tower={"dim": 16, "width": 16, "inner": 16, "layers": 1, "window": 10}
        )
        assert store.train(config, dry_run=True)["items"]
        assert store.train(config)["generation"] == 2
        assert store.recommend(user="u1", k=5).model == "tower"
        assert store.evaluate(split="last", users=8, allow_seen=True).users == 8
        assert store.events.forget("u1") == 20
        assert store.verify().sound

        tuned = store.finetune("align", out=shop / "tuned")
        assert tuned["verdict"] in {"helped", "no difference", "hurt"}
        moved = store.reindex(tuned["encoders"], force=True)
        assert not any(moved.encoded.values())
        assert [one.number for one in store.generations()] == [1, 2, 3]
    with mmrec.open(shop / "shop") as store:
        assert store.search("a bird of make 5", k=1).hits[0].id == "i5"
        assert store.rollback() == 2
        assert store.verify().sound
        assert not store.repair().incomplete
        assert store.compact(mmrec.Policy(keep=1))
        assert store.export(shop / "vectors.parquet")["items"] == 32
        assert store.status()["items"] == 32


def test_unknown_settings_are_named(shop):
    with (
        mmrec.open(shop / "shop") as store,
        pytest.raises(mmrec.MmrecError, match=r"no setting .adds.; there are .*add"),
    ):
        store.index(shop / "catalog.jsonl", id="id", text="title", adds=True)
    with pytest.raises(mmrec.MmrecError, match="is not a mmrec store"):
        mmrec.open(shop / "nothing")


def test_the_facade_is_all_that_is_needed():
    """No notebook, and not this file, imports a submodule of mmrec or a job of the command line."""
    sources = [Path(__file__).read_text(encoding="utf-8")]
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        sources += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            named = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in named if name.startswith(("mmrec.", "pipelines", "indexers"))], source
