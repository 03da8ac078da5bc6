"""A generation is opened beside the items that it was built from, or not at all."""

import hashlib
import json
import shutil

import lance
import numpy as np
import pyarrow as pa
import pytest

import mmrec
from mmrec.embedding.commit import ChangeRules
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Sample
from mmrec.errors import StoreError
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import Recipe
from mmrec.generation.generation import open_generation
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space


class Cheap:
    """Vectors by hash: what matters here is where they go, not what they mean."""

    spaces = {Modality.TEXT: (Space("cheap", 16, "c" * 40),)}  # noqa: RUF012
    batch_cost = 64
    module = None

    def prepare(self, _, content):
        return Sample(np.array([content]), 1)

    def encode(self, _, samples):
        seeds = [
            int.from_bytes(hashlib.blake2b(str(one.tensor[0]).encode(), digest_size=8).digest()) for one in samples
        ]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds]).astype(np.float32)
        return {"cheap": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def index(layout, names, **how):
    items = [Item(name, (Field(Modality.TEXT, "title", text=name),), {}, row) for row, name in enumerate(names)]
    return mmrec.index_items(items, pa.schema([]), layout, [Cheap()], mmrec.Indexing(**how))


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    for count in (30, 40):
        index(made, [f"i{n}" for n in range(count)])
    return made


def test_items_that_were_removed_or_set_back_are_noticed(layout, tmp_path):
    shutil.copytree(layout.items, tmp_path / "copy")
    shutil.rmtree(layout.items)
    with pytest.raises(StoreError, match=r"missing, but generation 2 was built from its version \d+; restore"):
        index(layout, ["i1"])
    with pytest.raises(StoreError, match="missing"):
        mmrec.open(layout.root, encoders=[Cheap()]).search("i1")
    shutil.copytree(tmp_path / "copy", layout.items)
    newest = lance.dataset(str(layout.items)).version
    (layout.items / "_versions" / f"{2**64 - 1 - newest:020}.manifest").unlink()
    with pytest.raises(StoreError, match="at version"):
        index(layout, ["i1"])


def test_after_the_advice_is_followed_every_vector_is_still_there(layout):
    shutil.rmtree(layout.items)
    layout.current.unlink()
    tally, made = index(layout, [f"i{n}" for n in reversed(range(40))])
    assert (tally.added, made.items, made.number) == (40, 40, 3)
    assert sum(tally.encoded.values()) == 0
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    for n in range(0, 40, 7):
        assert engine.search(f"i{n}", k=1).hits[0].id == f"i{n}"


def test_arrays_of_another_generation_are_noticed(layout):
    for name in ("rows.npy", "modalities.npy", "vectors.npy"):
        kept = (layout.generations / "2" / name).read_bytes()
        shutil.copy(layout.generations / "1" / name, layout.generations / "2" / name)
        with pytest.raises(StoreError, match=rf"{name} is damaged: .*mmrec rollback"):
            open_generation(layout, 2)
        (layout.generations / "2" / name).write_bytes(kept)
    assert open_generation(layout, 2).vectors.shape[0] == 40


def test_an_index_published_meanwhile_is_built_upon(layout):
    def source():
        yield Item("i0", (Field(Modality.TEXT, "title", text="i0"),))
        # A second job would have to wait; live changes and a mending do not.
        others = [Item(f"other{n}", (Field(Modality.TEXT, "title", text=f"other{n}"),)) for n in range(20)]
        EmbeddingJob(layout, [Cheap()], rules=ChangeRules(changes_only=True)).run(others, pa.schema([]))
        build_generation(layout, Recipe(Cheap.spaces), open_generation(layout, 1), refit=True)

    _, made = mmrec.index_items(source(), pa.schema([]), layout, [Cheap()], mmrec.Indexing(keep_missing=True))
    manifests = {
        number: json.loads((layout.generations / str(number) / "manifest.json").read_text()) for number in (2, 3)
    }
    assert made.number == 3
    assert manifests[3]["items"] == 60


@pytest.mark.parametrize("later", ["index_tuned", "index_memory"])
def test_a_manifest_that_was_written_before_a_field_came_is_still_what_was_published(layout, later):
    path = layout.generations / "2" / "manifest.json"
    written = json.loads(path.read_bytes())
    del written[later], written["digest"]
    digest = hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(written | {"digest": digest}))
    assert open_generation(layout, 2).manifest.number == 2
    path.write_text(json.dumps(written | {"digest": digest, "items": 41}))
    with pytest.raises(StoreError, match="not the manifest that was published"):
        open_generation(layout, 2)
