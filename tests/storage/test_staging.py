"""Whatever goes into the table comes out of it, and what cannot go in is refused in words."""

from datetime import UTC, date, datetime

import lance
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.errors import StoreError, UsageError
from mmrec.storage import staging
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.staging import StagedItems, commit_items, remove_items
from mmrec.storage.stored_item import StoredField, StoredItem, _is_fit, item_schema
from mmrec.storage.tables import MOST_SMALL_FRAGMENTS, SMALL_ROWS
from mmrec.types import Modality

PRICE = pa.schema([("price", pa.int64())])


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    made.create()
    return made


def item(name, **metadata):
    field = StoredField(Modality.TEXT, "title", name.encode("utf-8", "replace").ljust(16, b".")[:16])
    return StoredItem(name, b"d" * 16, name, (field,), metadata)


def commit(layout, items, metadata, drop=()):
    with scratch_folder(layout) as folder:
        staged = StagedItems(folder, item_schema(metadata))
        for one in items:
            staged.add(one)
        staged.close()
        staged.drop(drop)
        with file_lock(layout.lock):
            commit_items(layout.items, staged)


names = st.text(st.characters(codec="utf-8"), max_size=12)
columns = names.filter(_is_fit)
scalars = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=9))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, scalars, min_size=1, max_size=6), columns, st.data())
def test_any_ids_and_column_names_come_back_are_edited_filtered_and_removed(tmp_path_factory, values, column, data):
    layout = Layout(tmp_path_factory.mktemp("any") / "store")
    layout.create()
    if column in ("id", "mmrec_digest", "mmrec_text", "mmrec_fields"):
        return
    metadata = pa.schema([(column, pa.string())])
    commit(layout, [item(name, **{column: value}) for name, value in values.items()], metadata)
    edited = data.draw(st.sampled_from(sorted(values)))
    commit(layout, [item(edited, **{column: "it's"})], metadata)
    table = ItemTable(layout.items)
    expected = values | {edited: "it's"}
    assert {name: dict(one.metadata) for name, one in table.by_id(list(values)).items()} == {
        name: {column: value} for name, value in expected.items()
    }
    assert len(table.rows(f"`{column}` = 'it''s'")) == sum(value == "it's" for value in expected.values())
    assert remove_items(layout.items, [edited, "not there"]) == 1
    assert set(ItemTable(layout.items).by_id(list(values))) == set(values) - {edited}


def test_dates_times_truths_and_nulls(layout):
    schema = pa.schema([("day", pa.date32()), ("at", pa.timestamp("us", tz="UTC")), ("ok", pa.bool_())])
    full = {"day": date(2020, 2, 29), "at": datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "ok": False}
    commit(layout, [item("full", **full), item("null")], schema)
    commit(layout, [item("full", **(full | {"ok": True}))], schema)
    table = ItemTable(layout.items)
    stored = table.by_id(["full", "null"])
    assert stored["full"].metadata == full | {"ok": True}
    assert stored["null"].metadata == {"day": None, "at": None, "ok": None}
    for where in ("ok", "day > DATE '2020-01-01'", "at < TIMESTAMP '2021-01-01'", "day IS NOT NULL"):
        assert table.rows(where).tolist() == [stored["full"].row]


def test_metadata_that_does_not_fit_names_the_item(layout):
    with pytest.raises(UsageError, match=r"item 'i1' does not fit .*'price': 'int64'.*'dear'"):
        commit(layout, [item("i0", price=1), item("i1", price="dear")], PRICE)
    with pytest.raises(UsageError, match="item 'i2' does not fit"):
        commit(layout, [item("i2", price=2**70)], PRICE)
    with pytest.raises(UsageError, match=r"item 'i3' has metadata 'colour', .*\['price'\]"):
        commit(layout, [item("i3", colour="red")], PRICE)
    assert list(layout.staging.iterdir()) == []


def test_a_text_with_half_a_character_is_stored_without_it(layout):
    commit(layout, [StoredItem("i", b"d" * 16, "half \ud800", (), {})], pa.schema([]))
    assert ItemTable(layout.items).by_id(["i"])["i"].text == "half ?"


def test_a_column_that_was_always_empty_takes_the_type_of_its_first_values(layout):
    commit(layout, [item("i0", brand=None)], pa.schema([("brand", pa.null())]))
    commit(layout, [item("i1", brand="acme")], pa.schema([("brand", pa.string())]))
    stored = ItemTable(layout.items).by_id(["i0", "i1"])
    assert [stored[name].metadata["brand"] for name in ("i0", "i1")] == [None, "acme"]


def test_new_columns_do_not_make_old_items_new(layout):
    commit(layout, [item("i0", price=1)], PRICE)
    version = ItemTable(layout.items).version
    commit(layout, [item("i1", brand="acme")], pa.schema([("brand", pa.string())]))
    table = ItemTable(layout.items)
    assert table.ids_changed_since(version) == {"i1"}
    assert table.changed_since(version).tolist() == [table.by_id(["i1"])["i1"].row]


def test_dropped_items_are_not_committed_and_nothing_is_no_commit(layout):
    commit(layout, [item(f"i{n}", price=n) for n in range(5)], PRICE, drop=["i1", "i3"])
    assert set(ItemTable(layout.items).by_id([f"i{n}" for n in range(5)])) == {"i0", "i2", "i4"}
    version = ItemTable(layout.items).version
    commit(layout, [item("i1", price=1)], PRICE, drop=["i1"])
    assert remove_items(layout.items, ["i1", "i3"]) == remove_items(layout.items, []) == 0
    assert ItemTable(layout.items).version == version


def test_staged_items_are_found_by_id(layout):
    with scratch_folder(layout) as folder:
        staged = StagedItems(folder, item_schema(PRICE))
        for n in range(10):
            staged.add(item(f"i{n}", price=n))
        staged.close()
        assert staged.items(["i3", "none"]) == {"i3": item("i3", price=3)}


def test_a_large_change_is_committed_in_pieces_and_doubles_nothing(layout, monkeypatch):
    monkeypatch.setattr(staging, "ROWS_PER_COMMIT", 8192)
    monkeypatch.setattr(staging, "INDEX_IDS_FROM", 1000)
    commit(layout, [item(f"i{n}", price=n) for n in range(15_000)], PRICE)
    rows = {name: one.row for name, one in ItemTable(layout.items).by_id(["i0", "i9999"]).items()}
    commit(layout, [item(f"i{n}", price=-n) for n in range(5000, 25_000)], PRICE)
    table = ItemTable(layout.items)
    assert len(table) == len({name for batch in table.ids() for name in batch}) == 25_000
    assert len(table.rows("price < 0")) == 20_000
    assert {name: one.row for name, one in table.by_id(["i0", "i9999"]).items()} == rows
    assert remove_items(layout.items, [f"i{n}" for n in range(0, 25_000, 2)]) == 12_500


def test_many_small_commits_leave_few_files_and_do_not_rewrite_large_ones(layout):
    commit(layout, [item(f"large{n}", price=n) for n in range(SMALL_ROWS)], PRICE)
    large = lance.dataset(str(layout.items)).get_fragments()[0].fragment_id
    for n in range(MOST_SMALL_FRAGMENTS + 3):
        commit(layout, [item(f"i{n}", price=n)], PRICE)
    version = ItemTable(layout.items).version
    fragments = lance.dataset(str(layout.items)).get_fragments()
    assert len(fragments) < MOST_SMALL_FRAGMENTS
    assert fragments[0].fragment_id == large
    assert ItemTable(layout.items).ids_changed_since(version) == set()
    assert ItemTable(layout.items).ids_changed_since(version - 6) <= {f"i{n}" for n in range(MOST_SMALL_FRAGMENTS + 3)}


def test_a_table_that_cannot_be_written_says_so(layout, monkeypatch):
    def full(*_, **__):
        raise OSError("LanceError(IO): No space left on device (os error 28)")

    commit(layout, [item("i0", price=1)], PRICE)
    monkeypatch.setattr(staging, "compact", full)
    with pytest.raises(StoreError, match=r"items\.lance cannot be written: .*No space left.*run it again"):
        commit(layout, [item("i1", price=1)], PRICE)


def test_thousands_of_columns_cost_no_list_of_names_each(tmp_path):
    """Counted, not timed: names are looked up in a set that is made once."""

    class Counted:
        reads = 0

        def __init__(self, schema):
            self._schema = schema

        @property
        def names(self):
            Counted.reads += 1
            return self._schema.names

    schema = item_schema(pa.schema([(f"c{n}", pa.int64()) for n in range(2000)]))
    staged = StagedItems(tmp_path, schema)
    staged.schema = Counted(schema)
    for row in range(3):
        staged.add(StoredItem(f"i{row}", b"0" * 16, "a", (), {f"c{n}": n for n in range(2000)}))
    assert Counted.reads < 10
