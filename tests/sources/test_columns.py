"""Guesses, and what is said where they or the caller's columns fail."""

import json

import datasets
import pyarrow as pa
import pytest

from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.rows import SeenIds
from mmrec.sources.source import open_source


def _jsonl(folder, *rows):
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "a.jsonl"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"user_id": 1, "sku": "a", "Description": "d", "Title": "t", "photo": "x/a.JPG", "clip": "a.mp3", "n": 1}]
            * 1,
            ColumnSpec("sku", ("Title", "Description"), ("photo",), ("clip",), ("user_id", "n")),
        ),
        (
            [{"movieId": n, "title": "t", "poster": f"https://x.org/{n}.png"} for n in range(9)],
            ColumnSpec("movieId", ("title",), (), (), ("poster",)),
        ),
        (
            [{"id": 1, "item_id": n, "name": "t", "gallery": [f"{n}.png", "b.png"]} for n in range(9)],
            ColumnSpec("item_id", ("name",), ("gallery",), (), ("id",)),
        ),
    ],
)
def test_guesses(tmp_path, rows, expected):
    assert guess_columns(_jsonl(tmp_path, *rows)) == expected


def test_no_id_and_no_content_are_refused_with_the_columns(tmp_path):
    with pytest.raises(UsageError, match=r"ids.*--id.*'colour', 'title'"):
        guess_columns(_jsonl(tmp_path, {"colour": 1, "title": "t"}))
    with pytest.raises(UsageError, match=r"content.*--text.*'id', 'colour'"):
        guess_columns(_jsonl(tmp_path, {"id": 1, "colour": "red"}))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (ColumnSpec("id", ("titel",)), r"no column 'titel'. Did you mean 'title'\? It has 'id', 'title', 'pic'"),
        (ColumnSpec("id", ("title",), metadata=("zzz",)), "no column 'zzz'. It has"),
        (ColumnSpec("id"), "at least one"),
        (ColumnSpec("id", ("title",), ("title",)), "named twice"),
    ],
)
def test_wrong_columns(tmp_path, columns, words):
    with pytest.raises(UsageError, match=words):
        open_source(_jsonl(tmp_path, {"id": 1, "title": "t", "pic": "a.png"}), columns)


def test_wrong_paths(tmp_path):
    columns = ColumnSpec("id", ("text",))
    with pytest.raises(UsageError, match="There is no"):
        open_source(tmp_path / "gone.csv", columns)
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(UsageError, match=r"no known kind.*\.parquet"):
        open_source(tmp_path / "a.xlsx", columns)
    with pytest.raises(UsageError, match="no images"):
        open_source(tmp_path, columns)


def test_a_directory_of_splits_names_them(tmp_path):
    datasets.disable_progress_bars()
    one = datasets.Dataset(pa.table({"id": [1], "text": ["x"]}))
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(UsageError, match="test, train"):
        guess_columns(tmp_path / "d")
    assert guess_columns(tmp_path / "d" / "train") == ColumnSpec("id", ("text",))


def test_seen_ids_beyond_the_recent_ones():
    seen = SeenIds()
    for number in range(140_000):
        seen.add(str(number))
    assert all(str(number) in seen for number in range(0, 140_000, 997))
    assert not any(f"x{number}" in seen for number in range(1000))
