"""Rows keep their number; changes come whole; filters and types are checked."""

import lance
import numpy as np
import pyarrow as pa
import pytest

from mmrec.errors import StoreError, UsageError
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.staging import StagedItems, commit_items, remove_items
from mmrec.storage.stored_item import StoredField, StoredItem, item_schema
from mmrec.storage.tables import create_table
from mmrec.types import Modality

METADATA = pa.schema([("category", pa.string()), ("price", pa.int64())])


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    made.create()
    return made


def item(name, price=1, category="a"):
    content = StoredField(Modality.TEXT, "title", name.encode().ljust(16, b"."))
    return StoredItem(
        name, str(price).encode().ljust(16, b"."), name, (content,), {"category": category, "price": price}
    )


def commit(layout, items, metadata=METADATA):
    with scratch_folder(layout) as folder:
        staged = StagedItems(folder, item_schema(metadata))
        for one in items:
            staged.add(one)
        staged.close()
        with file_lock(layout.lock):
            commit_items(layout.items, staged)


def test_an_edited_item_keeps_its_row_and_a_new_one_gets_its_own(layout):
    commit(layout, [item(f"i{n}") for n in range(20)])
    before = ItemTable(layout.items)
    rows = {name: one.row for name, one in before.by_id([f"i{n}" for n in range(20)]).items()}
    commit(layout, [item("i3", price=99), item("new")])
    after = ItemTable(layout.items)
    assert after.by_id(["i3"])["i3"].row == rows["i3"]
    assert after.by_id(["i3"])["i3"].metadata == {"category": "a", "price": 99}
    assert after.by_id(["new"])["new"].row not in rows.values()
    changed = {after.by_id(["i3"])["i3"].row, after.by_id(["new"])["new"].row}
    assert set(after.changed_since(before.version).tolist()) == changed
    assert len(before) == 20
    assert len(after) == 21
    assert before.latest_version == after.version


def test_row_numbers_survive_compaction(layout):
    for n in range(5):
        commit(layout, [item(f"i{n}")])
    before = ItemTable(layout.items)
    rows = {name: one.row for name, one in before.by_id([f"i{n}" for n in range(5)]).items()}
    before._table.optimize.compact_files()
    after = ItemTable(layout.items)
    assert {name: one.row for name, one in after.by_id(list(rows)).items()} == rows


def test_ids_with_quotes_and_other_scripts_are_found_and_removed(layout):
    names = ["it's", 'say "hi"', "红船", "a,b", "x' OR '1'='1", "back\\slash", "new\nline", "percent%_"]
    commit(layout, [item(name) for name in names])
    assert set(ItemTable(layout.items).by_id(names)) == set(names)
    assert remove_items(layout.items, ["x' OR '1'='1", "absent"]) == 1
    assert set(ItemTable(layout.items).by_id(names)) == set(names) - {"x' OR '1'='1"}


def test_filters_and_a_bad_one(layout):
    commit(layout, [item(f"i{n}", price=n, category="ab"[n % 2]) for n in range(10)])
    table = ItemTable(layout.items)
    assert len(table.rows("category = 'a' AND price >= 4")) == 3
    assert len(table.rows("id IN ('i1', 'i2')")) == 2
    assert len(table.rows("price > 1000")) == 0
    for bad in ("colour = 'red'", "category = ", "DROP TABLE items"):
        with pytest.raises(UsageError, match=r"Columns: id \(texts\), category \(texts\), price \(whole numbers\)"):
            table.rows(bad)


def test_new_metadata_columns_are_added_and_old_ones_become_null(layout):
    commit(layout, [item("i0")])
    wider = pa.schema([("category", pa.string()), ("colour", pa.string())])
    one = StoredItem("i1", b"d" * 16, None, (), {"category": "b", "colour": "red"})
    commit(layout, [one], wider)
    stored = ItemTable(layout.items).by_id(["i0", "i1"])
    assert stored["i0"].metadata == {"category": "a", "price": 1, "colour": None}
    assert stored["i1"].metadata == {"category": "b", "price": None, "colour": "red"}


@pytest.mark.parametrize(
    ("old", "new", "typed", "expected"),
    [
        (5, 7.5, pa.float64(), pa.float64()),
        (5, "dear", pa.string(), pa.string()),
        (5, None, pa.string(), pa.int64()),
        (5, None, pa.null(), pa.int64()),
    ],
)
def test_a_metadata_column_takes_the_type_that_holds_old_and_new(layout, old, new, typed, expected):
    commit(layout, [item("i0", price=old)])
    row = ItemTable(layout.items).by_id(["i0"])["i0"].row
    commit(layout, [StoredItem("i1", b"d" * 16, None, (), {"price": new})], pa.schema([("price", typed)]))
    table = ItemTable(layout.items)
    assert table.metadata_schema.field("price").type == expected
    found = table.by_id(["i0", "i1"])
    kept = str(old) if expected == pa.string() else old
    assert (found["i0"].metadata["price"], found["i1"].metadata["price"], found["i0"].row) == (kept, new, row)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_change_of_type_that_was_cut_off_is_mended(layout, steps):
    commit(layout, [item("i0", price=5)])
    table = lance.dataset(str(layout.items))
    table.add_columns({"mmrec_retyped price": "cast(`price` as double)"})
    if steps == 2:
        table.drop_columns(["price"])
    commit(layout, [item("i1", price=7)])
    found = ItemTable(layout.items).by_id(["i0", "i1"])
    assert {name: one.metadata for name, one in found.items()} == {
        "i0": {"category": "a", "price": 5},
        "i1": {"category": "a", "price": 7},
    }


def test_reserved_metadata_names_are_refused():
    with pytest.raises(UsageError, match="mmrec_digest"):
        item_schema(pa.schema([("mmrec_digest", pa.string())]))


def test_batches_hold_every_row_once(layout):
    commit(layout, [item(f"i{n}") for n in range(25)])
    table = ItemTable(layout.items)
    rows = np.concatenate([rows for rows, _ in table.batches(size=7)])
    assert sorted(rows.tolist()) == table.rows().tolist()


def test_a_folder_that_is_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a mmrec store"):
        Layout(tmp_path).create()
    with pytest.raises(StoreError, match="mmrec index SOURCE"):
        Layout(tmp_path).check()


def test_a_store_of_another_format_is_refused(layout):
    (layout.root / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="format 99"):
        layout.check()
    (layout.root / "store.json").write_text("{}")
    with pytest.raises(StoreError, match="cannot be read"):
        layout.check()


def test_a_table_without_rows_is_there(tmp_path):
    path = tmp_path / "items.lance"
    create_table(path, item_schema(pa.schema([("shelf", pa.string())])))
    table = ItemTable(path)
    assert (table.version, table.latest_version, len(table)) == (1, 1, 0)
    assert table.metadata_schema.names == ["shelf"]
    assert list(tmp_path.iterdir()) == [path]
