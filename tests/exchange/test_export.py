"""What an export says is what the store holds, read back by the programs it is for."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from exchange_shop import SHELVES, TITLES, index, titles

import mmrec
from mmrec.encoders.packaged.minilm import SPACE
from mmrec.errors import StoreError, UsageError
from mmrec.exchange import export as files
from mmrec.exchange.export import Export, export_vectors
from mmrec.exchange.vector_files import METADATA_KEY, Origin
from mmrec.generation.generation import VECTORS
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality


@pytest.fixture(scope="module")
def shop(tmp_path_factory, packaged):
    layout = Layout(tmp_path_factory.mktemp("shop") / "store")
    index(layout, packaged[:1], titles(TITLES))
    engine = mmrec.open(layout.root, encoders=packaged[:1])
    engine.upsert([Item("late", (Field(Modality.TEXT, "title", text="a late arrival"),), {"shelf": "z"})])
    engine.upsert([Item("boat", (Field(Modality.TEXT, "title", text="another boat"),), {"shelf": "z"})])
    engine.delete("drum")
    return engine, layout


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, object], dict[bytes, bytes]]:
    table = pq.read_table(path)
    vectors = np.stack([np.asarray(row, dtype=np.float32) for row in table["vector"].to_pylist()])
    ids = table["id"].to_pylist()
    shelves = table["shelf"].to_pylist()
    return dict(zip(ids, vectors, strict=True)), dict(zip(ids, shelves, strict=True)), table.schema.metadata


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_parquet_file_holds_the_items_of_now_with_their_vectors(shop, tmp_path, dtype):
    engine, layout = shop
    done = export_vectors(layout, tmp_path / "out.parquet", Export(dtype=dtype))
    vectors, shelves, metadata = read(done.path)
    expected = {**SHELVES, "late": "z", "boat": "z"}
    del expected["drum"]
    assert shelves == expected
    assert done.rows == done.items == len(expected)
    np.testing.assert_allclose(np.stack(list(vectors.values())), engine.vectors(list(vectors)), atol=1e-3)
    origin = Origin.parse(metadata[METADATA_KEY], "out.parquet")
    assert origin == done.origin
    assert (origin.kind, origin.dim, origin.dtype, origin.encoders) == ("items", 384, dtype, "packaged")
    assert origin.blocks == {f"{SPACE.name}.text": 384}
    assert str(pq.read_schema(done.path).field("vector").type) == f"fixed_size_list<element: {_arrow(dtype)}>[384]"


def _arrow(dtype):
    return {"float16": "halffloat", "float32": "float"}[dtype]


def test_a_datasets_directory_opens_with_datasets(shop, tmp_path):
    engine, layout = shop
    done = export_vectors(layout, tmp_path / "out", Export(format="datasets", where="shelf = 'z'"))
    loaded = datasets.load_from_disk(str(done.path))
    assert sorted(loaded["id"]) == ["boat", "late"]
    assert loaded.features["vector"].length == 384
    vectors = loaded.with_format("numpy")["vector"][:]
    np.testing.assert_allclose(vectors, engine.vectors(list(loaded["id"])), atol=1e-3)
    assert json.loads(loaded.info.description)["fingerprint"] == done.origin.fingerprint
    assert sorted(path.name for path in done.path.iterdir()) == [
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    ]


def test_vectors_of_a_space_are_those_of_the_contents(shop, tmp_path):
    _, layout = shop
    done = export_vectors(layout, tmp_path / "out", Export(space=SPACE.name, dtype="float32"))
    rows = pq.read_table(done.path).to_pylist()
    stored = ItemTable(layout.items).by_id([row["id"] for row in rows])
    assert {row["id"]: row["mmrec_hash"] for row in rows} == {name: one.fields[0].hash for name, one in stored.items()}
    _, expected = VectorTable(layout.vectors(SPACE), SPACE).fetch([row["mmrec_hash"] for row in rows])
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], dtype=np.float32), expected)
    assert {(row["mmrec_modality"], row["mmrec_column"]) for row in rows} == {("text", "title")}
    origin = Origin.parse(pq.read_schema(done.path / "part-00000.parquet").metadata[METADATA_KEY], "")
    assert (origin.space, origin.fingerprint, origin.modalities) == (SPACE.name, SPACE.fingerprint, ("text",))


def test_many_rows_make_several_files_of_which_none_is_lost(shop, tmp_path, monkeypatch):
    _, layout = shop
    monkeypatch.setattr(files, "ROWS_PER_FILE", 1)
    monkeypatch.setattr("mmrec.storage.items.ItemTable.scan", _one_by_one(ItemTable.scan))
    for out, how in ((tmp_path / "a", Export()), (tmp_path / "b", Export(format="datasets"))):
        done = export_vectors(layout, out, how)
        assert done.rows == len(TITLES)
    parts = sorted((tmp_path / "a").iterdir())
    assert len(parts) == len(TITLES)
    assert sorted(pq.read_table(tmp_path / "a")["id"].to_pylist()) == sorted(
        datasets.load_from_disk(str(tmp_path / "b"))["id"]
    )


def _one_by_one(scan):
    return lambda self, where=None, size=None, **options: scan(self, where, 1, **options)


def test_nothing_to_export_is_an_export_of_nothing(shop, tmp_path):
    _, layout = shop
    for name in ("a.parquet", "b"):
        assert export_vectors(layout, tmp_path / name, Export(where="shelf = 'none'")).rows == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == pq.read_table(tmp_path / "b").num_rows == 0
    with pytest.raises(UsageError, match="cannot be empty"):
        export_vectors(layout, tmp_path / "c", Export(where="shelf = 'none'", format="datasets"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b"]


def test_an_earlier_generation_exports_its_own_space(shop, tmp_path, packaged):
    engine, layout = shop
    first = engine.status()["generation"]
    before = export_vectors(layout, tmp_path / "before.parquet", Export(dtype="float32"))
    index(layout, packaged[:1], titles({**TITLES, "extra": "something else"}), refit=True)
    try:
        again = export_vectors(layout, tmp_path / "again.parquet", Export(generation=first, dtype="float32"))
        now = export_vectors(layout, tmp_path / "now.parquet", Export(dtype="float32"))
        assert again.origin == before.origin
        assert now.origin.fingerprint != before.origin.fingerprint
        old, new = read(before.path)[0], read(again.path)[0]
        np.testing.assert_allclose(new["apple"], old["apple"], atol=1e-6)
        assert "extra" in new
    finally:
        engine.rollback(first)


def test_what_is_there_is_replaced_only_on_demand_and_only_if_it_is_an_export(shop, tmp_path):
    _, layout = shop
    out = tmp_path / "out"
    export_vectors(layout, out, Export())
    with pytest.raises(UsageError, match="--overwrite"):
        export_vectors(layout, out, Export())
    export_vectors(layout, out, Export(format="datasets", overwrite=True))
    assert (out / "state.json").exists()
    assert not list(out.glob("*.parquet"))
    (out / "letter.txt").touch()
    with pytest.raises(UsageError, match=r"letter\.txt"):
        export_vectors(layout, out, Export(overwrite=True))
    with pytest.raises(UsageError, match="inside the store"):
        export_vectors(layout, layout.root / "out", Export())
    with pytest.raises(UsageError, match="make it first"):
        export_vectors(layout, tmp_path / "no" / "out", Export())
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(UsageError, match="link"):
        export_vectors(layout, tmp_path / "link", Export(overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_a_failing_export_leaves_what_was_there(shop, tmp_path, monkeypatch):
    _, layout = shop
    done = export_vectors(layout, tmp_path / "out", Export())
    before = read(done.path)[1]

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmrec.exchange.export.write_parquet_directory", fail)
    with pytest.raises(StoreError, match="No space left"):
        export_vectors(layout, done.path, Export(overwrite=True))
    assert read(done.path)[1] == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_wrong_calls_are_told(shop, tmp_path):
    _, layout = shop
    out = tmp_path / "out.parquet"
    for how, said in (
        (Export(space="nose"), f"nose.*{SPACE.name}"),
        (Export(vector_column="shelf"), "--vector-column"),
        (Export(where="shlf = 'z'"), "shlf"),
        (Export(generation=99), "generation 99"),
    ):
        with pytest.raises(UsageError, match=said):
            export_vectors(layout, out, how)
    assert list(tmp_path.iterdir()) == []


def test_damaged_vectors_are_not_exported(tmp_path, packaged):
    layout = Layout(tmp_path / "store")
    _, made = index(layout, packaged[:1], titles(TITLES))
    path = layout.generations / str(made.number) / VECTORS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="rollback"):
        export_vectors(layout, tmp_path / "out.parquet", Export())
