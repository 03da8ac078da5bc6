"""Vectors made elsewhere: what they mean in a store, and what is refused."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exchange_shop import SHELVES, TITLES, WORDS, index, titles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mmrec
from indexers.protocol import IndexSpec
from mmrec.encoders.packaged.minilm import SPACE
from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.exchange import importing
from mmrec.exchange.export import Export, export_vectors
from mmrec.exchange.importing import Import, import_vectors
from mmrec.exchange.vector_files import VectorColumns, open_vectors
from mmrec.exchange.vectors_of import Declaration
from mmrec.query import Part
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import fingerprint_of
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality, Space

DIM = 24
CLIP = Declaration(space="clip", modality=Modality.IMAGE, model="acme/clip, revision 7")


def vectors(count, seed=0, dim=DIM):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def write(path, ids, some, dtype=None, **columns):
    column = pa.array(
        [None if one is None else [float(x) for x in one] for one in some], dtype or pa.list_(pa.float32())
    )
    pq.write_table(pa.table({"id": ids, "vector": column, **columns}), path)
    return path


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "store")


def test_a_store_made_of_vectors_alone_is_searched_by_item_and_filtered(tmp_path, layout):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(4, DIM))
    groups = rng.integers(0, 4, 200)
    some = (centres[groups] * 3 + rng.normal(size=(200, DIM))).astype(np.float32)
    names = [f"i{n}" for n in range(200)]
    path = write(tmp_path / "in.parquet", names, some, group=groups, price=pa.array(np.arange(200) / 2))
    tally, space, made = import_vectors(
        layout, path, Import(VectorColumns(metadata=("group", "price")), Declaration("mine", Modality.TEXT))
    )
    assert (tally.seen, tally.vectors, tally.added, tally.quarantined) == (200, 200, 200, 0)
    assert (made.items, made.encoders, made.dim) == (200, "none", DIM)
    assert space.fingerprint == fingerprint_of("mine", DIM)
    engine = mmrec.open(layout.root)
    for n in (0, 50, 199):
        found = engine.similar(names[n], k=5)
        assert {hit.metadata["group"] for hit in found.hits} == {int(groups[n])}
    assert all(hit.metadata["price"] < 10 for hit in engine.similar("i3", where="price < 10", k=30).hits)
    with pytest.raises(UsageError, match=r"no encoder in use takes text.*mine\.text.*Query by item"):
        engine.search("a boat")
    with pytest.raises(UsageError, match="were imported"):
        engine.upsert([Item("x", (Field(Modality.TEXT, "t", text="x"),))])
    again, _, same = import_vectors(
        layout, path, Import(VectorColumns(metadata=("group", "price")), Declaration("mine", Modality.TEXT))
    )
    assert (again.vectors, again.added, again.changed, same.number) == (0, 0, 0, made.number)
    assert engine.delete(["i0"]) == 1
    assert engine.status()["items"] == 199


def test_a_changed_vector_of_an_item_without_content_replaces_the_old_one(tmp_path, layout):
    some = vectors(20)
    names = [f"i{n}" for n in range(20)]
    said = Import(declared=Declaration("mine", Modality.TEXT))
    import_vectors(layout, write(tmp_path / "a.parquet", names, some), said)
    some[3] = some[9] + 0.01
    tally, _, _ = import_vectors(layout, write(tmp_path / "b.parquet", names[3:4], some[3:4]), said)
    assert (tally.vectors, tally.changed, tally.added) == (1, 1, 0)
    assert mmrec.open(layout.root).similar("i3", k=1).hits[0].id == "i9"


@pytest.mark.parametrize("chosen", [{"index": IndexSpec("IVF1,SQ8", "ip", {"nprobe": 1})}, {"index_memory": 10**8}])
def test_the_index_that_a_person_chose_is_kept(tmp_path, layout, packaged, chosen):
    _, made = index(layout, packaged[:1], titles(TITLES), **chosen)
    path = write(tmp_path / "clip.parquet", list(WORDS), vectors(12))
    _, _, kept = import_vectors(layout, path, Import(declared=CLIP))
    assert kept.number != made.number
    for name in ("index_factory", "index_search", "index_given", "index_memory"):
        assert getattr(kept, name) == getattr(made, name)
    assert made.index_given == ("index" in chosen)
    assert import_vectors(layout, path, Import(declared=CLIP))[2].number == kept.number
    other = Import(declared=CLIP, index=IndexSpec("HNSW8,Flat", "ip"))
    assert import_vectors(layout, path, other)[2].index_factory == "HNSW8,Flat"


def test_an_index_that_cannot_be_is_refused_before_a_vector_is_taken_in(tmp_path, layout):
    path = write(tmp_path / "mine.parquet", [f"i{n}" for n in range(20)], vectors(20))
    for factory in ("nonsense", "PQ7x4fs"):
        how = Import(declared=Declaration("mine", Modality.TEXT), index=IndexSpec(factory, "ip"))
        with pytest.raises(UsageError, match=f"{factory}.*Allowed are recipes like.*Nothing was read yet"):
            import_vectors(layout, path, how)
        assert not layout.items.exists()
    how = Import(declared=Declaration("mine", Modality.TEXT), index=IndexSpec("PQ8x4fs,RFlat", "ip"))
    assert import_vectors(layout, path, how)[2].index_factory == "PQ8x4fs,RFlat"


@pytest.fixture
def shop(tmp_path, layout, packaged):
    """Titles of all, pictures of eight."""
    items = []
    for row, word in enumerate(WORDS):
        fields = [Field(Modality.TEXT, "title", text=TITLES[word])]
        if row < 8:
            Image.new("RGB", (8, 8), (row * 30, 0, 0)).save(tmp_path / f"{word}.png")
            fields.append(Field(Modality.IMAGE, "picture", uri=str(tmp_path / f"{word}.png")))
        items.append(Item(word, tuple(fields), {"shelf": SHELVES[word]}, row))
    index(layout, packaged[:1], items)
    index(layout, packaged[:1], items)
    return items


def test_vectors_of_pictures_become_a_block_and_stay_with_their_pictures(tmp_path, layout, packaged, shop):
    some = vectors(12)
    some[1] = some[0] + 0.05
    path = write(tmp_path / "clip.parquet", list(WORDS), some)
    tally, space, made = import_vectors(layout, path, Import(declared=CLIP))
    assert (tally.vectors, tally.added, tally.quarantined) == (12, 0, 0)
    assert set(made.contents) == {f"{SPACE.name}.text", "clip.image"}
    engine = mmrec.open(layout.root, encoders=packaged[:1])
    assert engine.similar("apple", against=["image"], k=1).hits[0].id == "boat"
    assert engine.search("a guitar", k=1).hits[0].id == "guitar"
    # Run again, the catalog leaves all as it is.
    tally, same = index(layout, packaged[:1], shop)
    assert (tally.added, tally.removed, same.contents) == (0, 0, made.contents)
    assert mmrec.open(layout.root, encoders=packaged[:1]).similar("apple", against=["image"], k=1).hits[0].id == "boat"
    # An edited title keeps its item's vectors, of the picture as of the item that has none.
    edited = [
        Item(one.id, (Field(Modality.TEXT, "title", text=f"new {one.id}"), *one.fields[1:]), one.metadata, one.row)
        for one in shop
    ]
    index(layout, packaged[:1], edited)
    now = mmrec.open(layout.root, encoders=packaged[:1])
    assert now.similar("apple", against=["image"], k=1).hits[0].id == "boat"
    assert now.similar("lamp", against=["image"], k=1).hits
    # By now the pictures are hashed; imported again, a vector belongs to its picture, and not to another one.
    tally, _, _ = import_vectors(layout, path, Import(declared=CLIP))
    assert (tally.vectors, tally.changed) == (8, 8)
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "apple.png")
    index(layout, packaged[:1], edited)
    with pytest.raises(UsageError, match="no vector for image"):
        mmrec.open(layout.root, encoders=packaged[:1]).similar("apple", against=["image"])
    fixed = write(tmp_path / "fixed.parquet", ["apple"], some[2:3])
    import_vectors(layout, fixed, Import(declared=Declaration("clip")))
    found = mmrec.open(layout.root, encoders=packaged[:1]).similar("apple", against=["image"], k=1)
    assert found.hits[0].id == "cat"
    stored = VectorTable(layout.vectors(space.space), space.space)
    assert len(stored) == 12 + 8 + 1


def test_a_later_import_reaches_items_that_are_otherwise_unchanged(tmp_path, layout, packaged, shop):
    some = vectors(12)
    import_vectors(layout, write(tmp_path / "a.parquet", list(WORDS[:6]), some[:6]), Import(declared=CLIP))
    before = mmrec.open(layout.root, encoders=packaged[:1])
    assert {hit.id for hit in before.similar("apple", against=["image"], k=12).hits} == set(WORDS[1:6])
    import_vectors(layout, write(tmp_path / "b.parquet", list(WORDS[6:8]), some[6:8]), Import(declared=CLIP))
    assert {hit.id for hit in before.similar("apple", against=["image"], k=12).hits} == set(WORDS[1:8])


def test_an_import_that_was_killed_before_its_generation_is_finished_by_the_next(
    tmp_path, layout, packaged, shop, monkeypatch
):
    some = vectors(12)
    import_vectors(layout, write(tmp_path / "a.parquet", list(WORDS[:6]), some[:6]), Import(declared=CLIP))
    path = write(tmp_path / "b.parquet", list(WORDS[6:8]), some[6:8])
    with monkeypatch.context() as patch:
        patch.setattr("mmrec.exchange.importing.commit_items", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_vectors(layout, path, Import(declared=CLIP))
    assert (layout.root / importing.UNFINISHED).exists()
    import_vectors(layout, path, Import(declared=CLIP))
    engine = mmrec.open(layout.root, encoders=packaged[:1])
    assert {hit.id for hit in engine.similar("apple", against=["image"], k=12).hits} == set(WORDS[1:8])
    assert not (layout.root / importing.UNFINISHED).exists()


def test_what_was_exported_is_imported_into_another_store_as_what_it_is(tmp_path, layout, packaged):
    index(layout, packaged[:1], titles(TITLES))
    for name, how in (("e.parquet", {}), ("e", {"format": "datasets"})):
        done = export_vectors(layout, tmp_path / name, Export(space=SPACE.name, **how))
        other = Layout(tmp_path / f"other-{name}")
        tally, space, made = import_vectors(other, done.path, Import(VectorColumns(metadata=("shelf",))))
        assert (space.name, space.fingerprint, tally.vectors) == (SPACE.name, SPACE.fingerprint, 12)
        # The encoder is known by its fingerprint, so it encodes queries for vectors that it did not make here.
        engine = mmrec.open(other.root, encoders=packaged[:1])
        assert engine.search("a guitar", k=1).hits[0].id == "guitar"
        one, two = engine.vectors(list(WORDS)), mmrec.open(layout.root).vectors(list(WORDS))
        np.testing.assert_allclose(one @ one.T, two @ two.T, atol=5e-3)
        assert made.items == 12


def test_vectors_by_content_hash_are_never_encoded(tmp_path, layout, packaged):
    index(layout, packaged[:1], titles(TITLES))
    done = export_vectors(layout, tmp_path / "e.parquet", Export(space=SPACE.name))
    other = Layout(tmp_path / "other")
    index(other, packaged[:1], titles({"apple": TITLES["apple"]}))
    tally, _, _ = import_vectors(other, done.path, Import(VectorColumns(id=None, content="mmrec_hash")))
    assert (tally.seen, tally.vectors, tally.changed) == (12, 11, 0)
    run, _ = index(other, packaged[:1], titles(TITLES))
    assert sum(run.encoded.values()) == 0
    assert mmrec.open(other.root, encoders=packaged[:1]).search("a guitar", k=1).hits[0].id == "guitar"


def test_bad_rows_are_left_out_with_their_row_numbers(tmp_path, layout, packaged, shop):
    good = vectors(12)
    rows = [
        ("apple", good[0]),
        ("boat", good[1][:5]),
        ("cat", [np.nan] * DIM),
        ("drum", [np.inf, *good[3][1:]]),
        ("engine", [0.0] * DIM),
        (None, good[5]),
        ("apple", good[6]),
        ("nobody", good[7]),
        ("", good[8]),
        ("flower", None),
        ("guitar", good[10] * 1e30),
    ]
    ids, some = zip(*rows, strict=True)
    path = write(tmp_path / "bad.parquet", list(ids), some)
    tally, _, _ = import_vectors(layout, path, Import(declared=CLIP))
    assert (tally.vectors, tally.quarantined) == (2, 9)
    entries = [one for one in mmrec.open(layout.root).quarantined() if one.column == "mmrec_vector:clip"]
    found = {one.source_row: one.reason for one in entries}
    expected = {
        1: "has 5 numbers, and the space has 24",
        2: "not finite",
        3: "not finite",
        4: "all zeros",
        5: "does not say whose",
        6: "earlier row",
        7: "no item of this id",
        8: "does not say whose",
        9: "no vector",
    }
    assert set(found) == set(expected)
    for row, reason in expected.items():
        assert reason in found[row]
    import_vectors(layout, path, Import(declared=CLIP))
    assert len([one for one in mmrec.open(layout.root).quarantined() if one.column == "mmrec_vector:clip"]) == 9


def test_another_vector_for_a_content_under_one_fingerprint_is_refused(tmp_path, layout, packaged, shop):
    some = vectors(12)
    import_vectors(layout, write(tmp_path / "a.parquet", ["apple"], some[:1]), Import(declared=CLIP))
    index(layout, packaged[:1], shop)  # and now the pictures are hashed
    import_vectors(layout, write(tmp_path / "a.parquet", ["apple"], some[:1]), Import(declared=CLIP))
    other = write(tmp_path / "b.parquet", ["apple", "boat"], some[1:3])
    tally, _, _ = import_vectors(layout, other, Import(declared=CLIP))
    assert (tally.vectors, tally.quarantined) == (1, 1)
    assert "another vector in this space" in mmrec.open(layout.root).quarantined()[0].reason


def test_spaces_that_do_not_agree_are_named_both(tmp_path, layout, packaged, shop):
    clip = write(tmp_path / "a.parquet", list(WORDS), vectors(12))
    import_vectors(layout, clip, Import(declared=CLIP))
    longer = write(tmp_path / "b.parquet", list(WORDS), vectors(12, dim=30))
    mine = write(tmp_path / "c.parquet", list(WORDS), vectors(12, dim=384))
    exported = export_vectors(layout, tmp_path / "e.parquet", Export(space=SPACE.name)).path
    before = sorted(layout.root.rglob("vectors/*"))
    for path, said, words in (
        (clip, Declaration("clip", model="acme/clip, revision 8"), "24 numbers of image, by acme/clip, revision 7.*8"),
        (longer, Declaration("clip"), "24 numbers.*30 numbers"),
        (mine, Declaration(SPACE.name, Modality.TEXT, model="mine"), f"{SPACE.fingerprint[:12]}.*by mine"),
        (exported, Declaration("clip", Modality.IMAGE), f"clip.*{SPACE.name}"),
        (exported, Declaration(model="other"), SPACE.fingerprint[:12]),
    ):
        with pytest.raises(SpaceMismatchError, match=words):
            import_vectors(layout, path, Import(declared=said))
    assert sorted(layout.root.rglob("vectors/*")) == before


def test_a_query_encoder_of_the_same_name_and_fingerprint_answers_for_imported_vectors(tmp_path, layout, packaged):
    texts = [TITLES[word] for word in WORDS]
    encoder = packaged[0]
    made = encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, text) for text in texts])[SPACE.name]
    path = write(tmp_path / "in.parquet", list(WORDS), made)
    said = Declaration(SPACE.name, Modality.TEXT, fingerprint=SPACE.fingerprint)
    import_vectors(layout, path, Import(declared=said))
    engine = mmrec.open(layout.root, encoders=[encoder])
    for word in WORDS:
        assert engine.search(TITLES[word], k=1).hits[0].id == word
    pulled = engine.search([Part("text", "a boat"), Part("item", "lamp")], k=2)
    assert {hit.id for hit in pulled.hits} <= set(WORDS)


def test_wrong_calls_are_told_before_anything_is_made(tmp_path, layout):
    path = write(tmp_path / "in.parquet", ["a"], vectors(1))
    (tmp_path / "text.parquet").write_text("no parquet")
    pq.write_table(pa.table({"id": ["a"], "vector": ["x"]}), tmp_path / "words.parquet")
    for file, how, said in (
        (path, Import(), "--space NAME"),
        (path, Import(declared=Declaration("mine")), "--modality"),
        (path, Import(declared=Declaration("My Space", Modality.TEXT)), "lower case"),
        (path, Import(declared=Declaration("mine", Modality.TEXT, fingerprint="../../x")), "fingerprint cannot"),
        (path, Import(VectorColumns(id="key"), CLIP), "no column 'key'; it has id, vector"),
        (path, Import(VectorColumns(id="id", content="id"), CLIP), "--hash"),
        (tmp_path / "words.parquet", Import(declared=CLIP), "holds string"),
        (tmp_path / "text.parquet", Import(declared=CLIP), "cannot be read"),
        (tmp_path / "none", Import(declared=CLIP), "no vectors at"),
        (write(tmp_path / "nothing.parquet", ["a"], [None]), Import(declared=CLIP), "no vector in it"),
    ):
        with pytest.raises(UsageError, match=said):
            import_vectors(layout, file, how)
    assert not layout.items.exists()


ROWS = st.lists(st.lists(st.floats(width=32), min_size=0, max_size=4), min_size=1, max_size=12)
KINDS = [pa.list_(pa.float32()), pa.large_list(pa.float64())]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(KINDS))
def test_any_rows_of_numbers_are_unit_vectors_or_refused(tmp_path, rows, kind):
    rows = [[1.0, 2.0, 3.0], *rows]
    path = write(tmp_path / "any.parquet", [str(n) for n in range(len(rows))], rows, kind)
    got = [row for batch in open_vectors(path, VectorColumns()).batches() for row in batch]
    assert [row.row for row in got] == list(range(len(rows)))
    for row, numbers in zip(got, rows, strict=True):
        exact = np.array(numbers, dtype=np.float64)
        length = np.linalg.norm(exact) if len(exact) == 3 else 0.0
        if len(exact) == 3 and np.isfinite(length) and length > 0:
            assert row.reason == ""
            np.testing.assert_allclose(row.vector, exact / length, atol=1e-5)
        else:
            assert row.vector is None
            assert row.reason


@pytest.mark.parametrize("kind", [pa.list_(pa.float16(), 3), pa.list_(pa.int64(), 3)])
def test_fixed_lists_of_other_numbers_are_read(tmp_path, kind):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "vector": pa.array([[3, 0, 4], None], kind)}), path)
    one, two = next(iter(open_vectors(path, VectorColumns()).batches()))
    np.testing.assert_allclose(one.vector, [0.6, 0, 0.8], atol=1e-6)
    assert two.vector is None


def test_a_dataset_of_vectors_is_read(tmp_path, layout):
    some = vectors(5)
    datasets.Dataset.from_dict({"key": list("abcde"), "embedding": some.tolist()}).save_to_disk(str(tmp_path / "ds"))
    how = Import(VectorColumns("key", vector="embedding"), Declaration("mine", Modality.AUDIO))
    tally, space, _ = import_vectors(layout, tmp_path / "ds", how)
    assert tally.added == 5
    found, stored = VectorTable(layout.vectors(Space("mine", DIM, space.fingerprint)), space.space).fetch(
        [one.fields[0].hash for one in ItemTable(layout.items).by_id(list("abcde")).values()]
    )
    assert found.all()
    assert json.loads((layout.root / "spaces.json").read_text())[0]["modality"] == "audio"
    assert stored.shape == some.shape
