"""Several pictures of one item, and texts and JSON objects beside media."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.locations import read_from_table
from mmrec.sources.source import open_source
from mmrec.types import Item, Reject, Removal


def _as_parquet(table, folder):
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def _as_dataset(table, folder):
    datasets.disable_progress_bars()
    datasets.Dataset(table).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.parametrize("writer", [_as_parquet, _as_dataset])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"bytes": data, "path": None}])
def test_lists_of_bytes_have_an_address_each(tmp_path, png, writer, wrap):
    pictures = [[png(size=(9 + n, 9 + row)) for n in range(row)] for row in range(4)]
    rows = [{"id": str(row), "title": "x", "views": [wrap(data) for data in some]} for row, some in enumerate(pictures)]
    rows[3]["views"].insert(1, None)
    path = writer(pa.Table.from_pylist(rows), tmp_path)
    columns = guess_columns(path)
    assert columns.image == ("views",)
    items = list(open_source(path, columns))
    found = [[field for field in item.fields if field.uri] for item in items]
    assert [[field.data for field in fields] for fields in found] == pictures
    assert [[read_from_table(field.uri) for field in fields] for fields in found] == pictures
    assert [field.column for field in found[3]] == ["views", "views[2]", "views[3]"]
    assert found[3][1].uri == f"{path}#row=3&column=views&item=2"


def test_lists_of_paths_and_several_columns(write, tmp_path):
    rows = [
        {"id": "a", "views": ["1.png", None, "/x/2.png"], "cover": "c.png"},
        {"id": "b", "views": ["1.png", "\0"], "cover": None},
    ]
    path = write(rows, tmp_path)
    folder = path if path.is_dir() else path.parent
    first, reject, second = open_source(path, ColumnSpec("id", (), ("views", "cover")))
    assert [(field.column, field.uri) for field in first.fields] == [
        ("views", f"{folder}/1.png"),
        ("views[2]", "/x/2.png"),
        ("cover", f"{folder}/c.png"),
    ]
    assert (reject.id, reject.column) == ("b", "views[1]")
    assert [field.uri for field in second.fields] == [f"{folder}/1.png"]


def test_a_path_that_begins_like_a_list_is_a_path(tmp_path):
    (tmp_path / "a.csv").write_text("id,image\n1,[draft] boat.png\n2,[1]\n")
    first, *rejects = open_source(tmp_path / "a.csv", ColumnSpec("id", (), ("image",)))
    assert first.fields[0].uri == f"{tmp_path}/[draft] boat.png"
    assert [reject.id for reject in rejects] == ["2", "2"]
    assert "not a path" in rejects[0].reason


@pytest.fixture
def described(media_folder):
    """A folder with JSON beside media: two good objects, and three files that are none."""
    animals = media_folder / "animals"
    (animals / "owl.json").write_text(json.dumps({"title": "Owl", "price": 3, "text": "of the object", "id": 9}))
    (animals / "鳥" / "鶴.json").write_text(json.dumps({"title": "Crane", "price": 2.5, "seen": "2024-02-29"}))
    (media_folder / "alone.json").write_text("{oops")
    (media_folder / "list.json").write_text("[1]")
    (media_folder / "latin.json").write_bytes(b'{"title": "caf\xe9"}')
    return media_folder


def test_keys_of_json_beside_media_are_columns(described):
    columns = guess_columns(described)
    metadata = ("folder", "price", "json_text", "json_id", "seen")
    assert (columns.id, columns.text, columns.image, columns.audio) == ("id", ("text", "title"), ("image",), ("audio",))
    assert set(columns.metadata) == set(metadata)
    source = open_source(described, columns)
    assert source.metadata_schema.field("price").type == pa.float64()
    assert source.metadata_schema.field("seen").type == pa.date32()
    results = list(source)
    items = {item.id: item for item in results if isinstance(item, Item)}
    assert set(items) == {"alone", "animals/owl", "animals/鳥/鶴"}
    assert items["animals/owl"].fields[0].text == "An owl.\n猫头鹰\nOwl"
    assert items["animals/owl"].metadata == {
        "folder": "animals",
        "price": 3.0,
        "json_text": "of the object",
        "json_id": 9,
    }
    rejects = [(r.id, r.where, r.column, r.reason) for r in results if isinstance(r, Reject)]
    assert ("alone", "alone", "json", rejects[0][3]) == rejects[0]
    assert "alone.json cannot be used: it is not JSON" in rejects[0][3]
    assert any("latin.json cannot be used: it is not UTF-8" in reason for *_, reason in rejects)
    assert any("list.json cannot be used: it is a JSON list" in reason for *_, reason in rejects)
    assert sum("no usable" in reason for *_, reason in rejects) == 2


def test_json_is_not_read_where_nobody_asks(described):
    results = list(open_source(described, ColumnSpec("id", ("text",), ("image",), ("audio",), ("folder",))))
    assert not any("json cannot" in result.reason for result in results if isinstance(result, Reject))


@pytest.mark.parametrize("mark", [True, 1, "yes", "TRUE"])
def test_rows_that_are_marked_remove(write, mark):
    no = {bool: False, int: 0}.get(type(mark), "no")
    rows = [{"id": "a", "text": "x", "gone": mark}, {"id": "b", "text": "x", "gone": no},
            {"id": "c", "text": "x", "gone": None}, {"id": "a", "text": "x", "gone": None}]  # fmt: skip
    removal, *items, again = open_source(write(rows), ColumnSpec("id", ("text",), deleted="gone"))
    assert (type(removal), removal.id, removal.row) == (Removal, "a", 1)
    assert [item.id for item in items] == ["b", "c"]
    assert (type(again), again.id) == (Reject, "a")


def test_a_mark_that_is_none_is_told_and_removes_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("id,text,gone\n1,x,perhaps\n")
    reject, item = open_source(tmp_path / "a.csv", ColumnSpec("id", ("text",), deleted="gone"))
    assert (reject.column, reject.where, item.id) == ("gone", "a.csv line 2", "1")
    assert "neither true nor false" in reject.reason
