"""Every kind of source gives the same items for the same records."""

import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.decoding.decode import decode
from mmrec.errors import MediaError
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.sources.source import open_source
from mmrec.types import Field, Item, Modality, Reject

RECORDS = [
    {
        "sku": "00123",
        "title": "Red boat",
        "description": 'A "fast", small\nboat; red',
        "front": "pictures/boat.png",
        "back": None,
        "noise": "/sounds/boat.ogg",
        "price": 12.5,
        "stock": 3,
        "new": True,
        "added": date(2024, 2, 29),
        "seen": datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001 - a column without a zone
        "sold": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "tags": ["a", "b"],
        "code": "007",
    },
    {
        "sku": "猫",
        "title": "https://example.org/not-a-link.png",
        "description": None,
        "front": "pictures/猫 1.png",
        "back": "pictures/back.png",
        "noise": None,
        "price": None,
        "stock": None,
        "new": False,
        "added": None,
        "seen": None,
        "sold": None,
        "tags": None,
        "code": "x",
    },
    {
        "sku": "3",
        "title": " ",
        "description": "Nur Text",
        "front": None,
        "back": None,
        "noise": None,
        "price": 1.0,
        "stock": -7,
        "new": None,
        "added": date(1999, 12, 31),
        "seen": None,
        "sold": None,
        "tags": [],
        "code": None,
    },
]
COLUMNS = ColumnSpec(
    "sku",
    ("title", "description"),
    ("front", "back"),
    ("noise",),
    ("price", "stock", "new", "added", "seen", "sold", "tags", "code"),
)


def test_items_fields_and_metadata(write):
    path = write(RECORDS)
    folder = path if path.name in {"parts", "saved"} else path.parent
    boat, cat, words = open_source(path, COLUMNS)
    assert boat.id == "00123"
    assert boat.fields == (
        Field(Modality.TEXT, "title+description", text='Red boat\nA "fast", small\nboat; red'),
        Field(Modality.IMAGE, "front", uri=f"{folder}/pictures/boat.png"),
        Field(Modality.AUDIO, "noise", uri="/sounds/boat.ogg"),
    )
    assert boat.metadata == {
        **{name: RECORDS[0][name] for name in ("price", "stock", "new", "added", "seen", "sold", "code")},
        "tags": '["a", "b"]' if path.suffix == ".csv" else ["a", "b"],  # cells of CSV are texts
    }
    assert cat.fields == (
        Field(Modality.TEXT, "title+description", text="https://example.org/not-a-link.png"),
        Field(Modality.IMAGE, "front", uri=f"{folder}/pictures/猫 1.png"),
        Field(Modality.IMAGE, "back", uri=f"{folder}/pictures/back.png"),
    )
    assert cat.metadata == {"new": False, "code": "x"}
    assert (words.id, words.fields[0].text, words.metadata["stock"]) == ("3", "Nur Text", -7)
    assert [item.row for item in (boat, cat, words)] == [1, 2, 3]


def test_schema_and_count(write):
    path = write(RECORDS)
    source = open_source(path, COLUMNS)
    assert source.count == 3
    assert source.metadata_schema == pa.schema(
        [
            ("price", pa.float64()),
            ("stock", pa.int64()),
            ("new", pa.bool_()),
            ("added", pa.date32()),
            ("seen", pa.timestamp("us")),
            ("sold", pa.timestamp("us", "UTC")),
            ("tags", pa.string() if path.suffix == ".csv" else pa.list_(pa.string())),
            ("code", pa.string()),
        ]
    )
    items = [dict(item.metadata) for item in source]
    assert pa.Table.from_pylist(items, schema=source.metadata_schema).num_rows == 3


def test_a_source_can_be_read_again(write):
    source = open_source(write(RECORDS), COLUMNS)
    assert list(source) == list(source)


def test_bad_ids_cost_only_their_rows(write):
    rows = [
        {"id": identity, "text": text}
        for identity, text in [("a", "1"), (None, "2"), ("  ", "3"), ("a", "4"), ("b", " "), ("b", "5"), ("c", None)]
    ]
    results = list(open_source(write(rows), ColumnSpec("id", ("text",))))
    assert [(r.id, r.row) for r in results if isinstance(r, Item)] == [("a", 1), ("b", 6)]
    rejects = {r.row: r for r in results if isinstance(r, Reject)}
    assert set(rejects) == {2, 3, 4, 5, 7}
    assert "missing" in rejects[2].reason
    assert "missing" in rejects[3].reason
    assert rejects[4].id == "a"
    assert "same id" in rejects[4].reason
    assert "no usable" in rejects[5].reason


@pytest.mark.parametrize("address", ["https://example.org/a.png", "HTTP://example.org/a.png", "s3://bucket/a.png"])
def test_an_address_with_a_scheme_is_no_path(write, address):
    row = {"id": "a", "text": "https://example.org/words", "image": address}
    (item,) = open_source(write([row]), ColumnSpec("id", ("text",), ("image",)))
    text, image = item.fields
    assert text.text == "https://example.org/words"
    assert image.uri == address


def test_a_web_address_is_read_only_where_that_is_allowed():
    with pytest.raises(MediaError, match="--allow-fetch"):
        MediaAccess().read("https://example.org/a.png")


def test_a_huge_row(write):
    rows = [{"id": "a", "text": "x" * 3_000_000}, {"id": "b", "text": "y"}]
    big, small = open_source(write(rows), ColumnSpec("id", ("text",)))
    assert (len(big.fields[0].text), small.id) == (3_000_000, "b")


def test_folder_equals_tables(write, media_folder, tmp_path):
    owl, crane = media_folder / "animals" / "owl", media_folder / "animals" / "鳥" / "鶴"
    rows = [
        {"id": "alone", "text": "Only words", "image": None, "audio": None, "folder": None},
        {
            "id": "animals/owl",
            "text": "An owl.\n猫头鹰",
            "image": f"{owl}.png",
            "audio": f"{owl}.ogg",
            "folder": "animals",
        },
        {"id": "animals/鳥/鶴", "text": None, "image": f"{crane}.png", "audio": None, "folder": "animals"},
    ]
    folder = open_source(media_folder, guess_columns(media_folder))
    table = write(rows, tmp_path)
    there = [replace(item, where="") for item in open_source(table, guess_columns(table))]
    assert [replace(item, where="") for item in folder] == there
    assert folder.count == 3
    assert folder.metadata_schema == pa.schema([("folder", pa.string())])


def test_two_pictures_of_one_name_are_two_fields(media_folder, png):
    (media_folder / "animals" / "owl.jpg").write_bytes(png())
    (media_folder / "animals" / "owl.txt").write_bytes(b"\xff\xfe\xfa")
    rejects = list(open_source(media_folder, ColumnSpec("id", ("text",), ("image",))))
    reject = next(r for r in rejects if isinstance(r, Reject) and r.column == "text")
    assert "UTF-8" in reject.reason
    owl = next(r for r in rejects if isinstance(r, Item) and r.id == "animals/owl")
    assert [field.column for field in owl.fields] == ["image", "image[1]"]


def test_a_file_name_that_is_not_utf8(media_folder, png):
    Path(os.fsdecode(os.fsencode(media_folder) + b"/caf\xe9.png")).write_bytes(png())
    (media_folder / "gone.png").symlink_to("nowhere")
    results = list(open_source(media_folder, guess_columns(media_folder)))
    rejects = [result for result in results if isinstance(result, Reject)]
    assert [r.reason for r in rejects] == [r"The file name caf\xe9 is not UTF-8; rename it."]
    gone = next(r for r in results if isinstance(r, Item) and r.id == "gone")
    with pytest.raises(MediaError, match="No such file"):
        MediaAccess().read(gone.fields[0])


def _datasets_of_bytes(records, folder):
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image(), "audio": datasets.Audio()})
    datasets.disable_progress_bars()
    table = pa.Table.from_pylist(records, schema=features.arrow_schema)
    datasets.Dataset(table.replace_schema_metadata(features.arrow_schema.metadata)).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def _parquet_of_bytes(records, folder):
    pq.write_table(pa.Table.from_pylist(records), folder / "catalog.parquet", row_group_size=3)
    return folder / "catalog.parquet"


@pytest.mark.parametrize("writer", [_datasets_of_bytes, _parquet_of_bytes])
def test_bytes_in_tables_are_carried_and_fetched_again(writer, tmp_path, png, sound, tone):
    pictures = [png(size=(20 + n, 20)) for n in range(10)]
    noise = sound(tone(0.1))
    records = [
        {"id": str(n), "image": {"bytes": data, "path": None}, "audio": {"bytes": noise, "path": "a.wav"}}
        for n, data in enumerate(pictures)
    ]
    path = writer(records, tmp_path)
    columns = guess_columns(path)
    assert columns == ColumnSpec("id", (), ("image",), ("audio",))
    items = list(open_source(path, columns))
    for number, item in enumerate(items):
        image, audio = item.fields
        assert image.data == pictures[number] == MediaAccess().read(image.uri)
        assert image.uri == f"{path}#row={number}&column=image"
        assert content_hash(MediaAccess().read(audio)) == content_hash(noise)
    with pytest.raises(MediaError, match="cannot be read any more"):
        MediaAccess().read(f"{path}#row=10&column=image")


def test_a_column_of_plain_bytes(tmp_path, png):
    pq.write_table(pa.table({"id": [1, 2], "my picture": [png(), None], "n": ["a", "b"]}), tmp_path / "a.parquet")
    columns = guess_columns(tmp_path / "a.parquet")
    assert columns.image == ("my picture",)
    item, reject = open_source(tmp_path / "a.parquet", columns)
    assert decode(Modality.IMAGE, MediaAccess().read(item.fields[0].uri)).size == (40, 30)
    assert isinstance(reject, Reject)


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array([1, 2**60]), ["1", str(2**60)]),
        (pa.array([12.0, None, 1.5, np.nan]), ["12", None, None, None]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([True]), [None]),
        (pa.array([b"x"]), [None]),
    ],
)
def test_ids_become_text(tmp_path, column, ids):
    pq.write_table(pa.table({"id": column, "text": ["x"] * len(column)}), tmp_path / "a.parquet")
    results = list(open_source(tmp_path / "a.parquet", ColumnSpec("id", ("text",))))
    assert [result.id for result in results] == ids


def test_parquet_files_with_different_columns_unite(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "text": ["x"], "n": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"id": ["b"], "text": ["y"], "n": [1.5], "more": ["z"]}), tmp_path / "2.parquet")
    source = open_source(tmp_path, ColumnSpec("id", ("text",), metadata=("n", "more")))
    assert source.metadata_schema == pa.schema([("n", pa.float64()), ("more", pa.string())])
    assert [dict(item.metadata) for item in source] == [{"n": 1.0}, {"n": 1.5, "more": "z"}]


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
_words = _texts.filter(lambda text: bool(text.strip()))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(st.tuples(_words, _words, st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5))
def test_whatever_is_written_is_read(write, tmp_path_factory, rows):
    records = [{"id": f"{n}{word}", "text": text, "n": number} for n, (word, text, number) in enumerate(rows)]
    path = write(records, tmp_path_factory.mktemp("round"))
    items = list(open_source(path, ColumnSpec("id", ("text",), metadata=("n",))))
    assert [(i.id, i.fields[0].text, i.metadata["n"]) for i in items] == [(r["id"], r["text"], r["n"]) for r in records]
