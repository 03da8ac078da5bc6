"""Metadata columns of lists, from a catalog into a store, out of it and into another, and beside columns of text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import SPACE, Cheap

import mmrec
from mmrec.exchange.export import Export, export_vectors
from mmrec.exchange.importing import Import, import_vectors
from mmrec.exchange.vector_files import VectorColumns
from mmrec.storage.layout import Layout
from mmrec.storage.staging import Retyping, retypings
from mmrec.types import Field, Item, Modality

TEXTS, WHOLE, NUMBERS = pa.list_(pa.string()), pa.list_(pa.int64()), pa.list_(pa.float64())
GENRES = {"toys": ["Animation", "Comedy"], "heat": ["Crime"], "none": [], "null": None}


def take_in(layout, values, kind, **how):
    items = [
        Item(name, (Field(Modality.TEXT, "title", text=name),), {} if value is None else {"value": value}, row)
        for row, (name, value) in enumerate(values.items())
    ]
    return mmrec.index_items(items, pa.schema([("value", kind)]), layout, [Cheap()], mmrec.Indexing(**how))


def ids(layout, where):
    return {hit.id for hit in mmrec.open(layout.root, encoders=[Cheap()]).items(where=where)}


def values_of(layout):
    return {hit.id: hit.metadata["value"] for hit in mmrec.open(layout.root).items()}


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "store")


def test_lists_are_filtered_shown_exported_and_imported(tmp_path, layout):
    take_in(layout, GENRES, TEXTS)
    assert values_of(layout) == GENRES
    assert ids(layout, "array_has(value, 'Comedy')") == {"toys"}
    assert ids(layout, "array_has_any(value, ['Crime', 'Comedy'])") == {"toys", "heat"}
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    assert [hit.id for hit in engine.search("toys", where="array_has(value, 'Crime')").hits] == ["heat"]
    assert take_in(layout, GENRES, TEXTS)[0].changed == 0
    engine.upsert([Item("late", (Field(Modality.TEXT, "title", text="late"),), {"value": ["Crime"]})])
    assert ids(layout, "array_has(value, 'Crime')") == {"heat", "late"}

    done = export_vectors(layout, tmp_path / "out.parquet", Export(space=SPACE.name))
    assert pq.read_schema(done.path).field("value").type == TEXTS
    other = Layout(tmp_path / "other")
    import_vectors(other, done.path, Import(VectorColumns(metadata=("value",))))
    assert values_of(other) == {**GENRES, "late": ["Crime"]}
    assert ids(other, "array_has(value, 'Animation')") == {"toys"}


@pytest.mark.parametrize(
    ("before", "kind", "after", "given", "kept"),
    [
        # A store of before lists were kept has them as JSON: it goes on, as text.
        ({"toys": '["Comedy"]'}, pa.string(), {"heat": ["Crime", "Žert"]}, TEXTS, ['["Comedy"]', '["Crime", "Žert"]']),
        ({"toys": ["Comedy"]}, TEXTS, {"heat": "Crime"}, pa.string(), ['["Comedy"]', "Crime"]),
        ({"toys": [1, 2]}, WHOLE, {"heat": [2.5]}, NUMBERS, [[1.0, 2.0], [2.5]]),
        ({"toys": [2.5, None]}, NUMBERS, {"heat": [1, None]}, WHOLE, [[2.5, None], [1.0, None]]),
        ({"toys": ["Comedy"]}, TEXTS, {"heat": None}, pa.string(), [["Comedy"], None]),
    ],
)
def test_lists_beside_other_types(layout, before, kind, after, given, kept):
    take_in(layout, before, kind)
    changes = list(retypings(pa.schema([("value", kind)]), pa.schema([("value", given)])))
    wanted = kind if after["heat"] is None else pa.array(kept).type
    assert changes[0].stored == kind
    assert after["heat"] is None or changes == [Retyping("value", kind, given, wanted)]
    take_in(layout, after, given, changes_only=True)
    assert values_of(layout) == dict(zip(("toys", "heat"), kept, strict=True))
    assert next(iter(mmrec.open(layout.root, encoders=[Cheap()]).search("heat", k=1).hits)).id == "heat"
