"""Hub data sets, by the code path of the hub, on local directories: there is no hub where tests run."""

import json

import datasets
import pyarrow as pa
import pytest

from mmrec.errors import MediaError, SourceError, UsageError
from mmrec.sources import hub_rows
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.locations import read_from_table
from mmrec.sources.source import open_source
from mmrec.types import Item


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    datasets.disable_progress_bars()
    hub_rows._loaded.cache_clear()


@pytest.fixture
def pictures(tmp_path, png, sound, tone):
    """A directory of two splits in Parquet, with pictures, sounds and classes."""
    kinds = {"image": datasets.Image(), "audio": datasets.Audio(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    features = datasets.Features({"uid": datasets.Value("string"), "title": datasets.Value("string"), **kinds})
    noise = {"bytes": sound(tone(0.1)), "path": None}
    for split, count in (("train", 150), ("test", 3)):
        rows = [
            {"uid": f"{split}-{n}", "title": f"thing {n}", "label": n % 2, "audio": noise,
             "image": {"bytes": png(size=(10 + n % 7, 10)), "path": None}}
            for n in range(count)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
        datasets.Dataset(table, fingerprint=split).to_parquet(str(tmp_path / f"{split}.parquet"))
    return tmp_path


def test_rows_are_streamed_undecoded(pictures, png):
    address = f"hf:{pictures}?split=train"
    columns = guess_columns(address, "uid")
    assert columns == ColumnSpec("uid", ("title",), ("image",), ("audio",), ("label",))
    source = open_source(address, columns)
    items = list(source)
    assert source.metadata_schema == pa.schema([("label", pa.string())])
    assert [item.id for item in items] == [f"train-{n}" for n in range(150)]
    assert (items[149].metadata, items[149].row) == ({"label": "dog"}, 150)
    assert items[149].where == f"{address} row 150"
    for n in (0, 77, 149):
        image = items[n].fields[1]
        assert image.uri == f"{address}#row={n}&column=image"
        assert image.data == read_from_table(image.uri) == png(size=(10 + n % 7, 10))
    with pytest.raises(MediaError, match="cannot be read any more"):
        read_from_table(f"{address}#row=150&column=image")
    assert list(source) == items


def test_pictures_in_folders_by_class(tmp_path, png):
    for kind in ("cat", "dog"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        (tmp_path / "train" / kind / "0.png").write_bytes(png())
    with pytest.raises(UsageError, match=r"--id __row__.*one revision"):
        guess_columns(f"hf:{tmp_path}")
    columns = guess_columns(f"hf:{tmp_path}", "__row__")
    assert columns == ColumnSpec("__row__", (), ("image",), (), ("label",))
    cat, dog = open_source(f"hf:{tmp_path}", columns)
    assert (cat.id, cat.metadata, cat.fields[0].uri) == ("1", {"label": "cat"}, f"{tmp_path}/train/cat/0.png")
    assert (dog.id, dog.metadata) == ("2", {"label": "dog"})


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_text_files_have_their_media_beside_them(tmp_path, name):
    rows = [{"id": n, "title": f"thing {n}", "photo": f"pictures/{n}.png"} for n in range(3)]
    if name.endswith("csv"):
        (tmp_path / name).write_text("id,title,photo\n" + "".join(f"{','.join(map(str, r.values()))}\n" for r in rows))
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = list(open_source(f"hf:{tmp_path}", ColumnSpec("id", ("title",), ("photo",))))
    assert [item.fields[1].uri for item in items] == [f"{tmp_path}/pictures/{n}.png" for n in range(3)]
    assert all(isinstance(item, Item) for item in items)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "has several splits: choose train, test, as in .*split=train"),
        ("?split=tran", "has no split 'tran': choose train, test"),
        ("?config=en&split=train", "cannot be opened: .*'en' not found. Available"),
        ("?splits=train", "the option 'splits'; write hf:OWNER/NAME"),
        ("?split=", "an option without a value"),
        ("/none", "cannot be opened: Couldn't find"),
    ],
)
def test_what_is_not_there(pictures, rest, words):
    with pytest.raises(UsageError, match=words):
        open_source(f"hf:{pictures}{rest}", ColumnSpec("uid", ("title",)))


def test_code_of_a_data_set_is_not_run(tmp_path):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UsageError, match="cannot be opened"):
        open_source(f"hf:{tmp_path}/evil", ColumnSpec("id", ("text",)))
    assert not (tmp_path / "ran").exists()


def test_a_stream_that_breaks_off_ends_the_job(pictures):
    source = open_source(f"hf:{pictures}?split=train", ColumnSpec("uid", ("title",)))
    (pictures / "train.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(SourceError, match=r"Reading .* stopped"):
        list(source)


@pytest.mark.parametrize(
    ("address", "name", "options"),
    [
        ("hf:owner/name", "owner/name", {}),
        ("hf://datasets/owner/name?split=train", "owner/name", {"split": "train"}),
        ("hf:owner/name?config=a%20b&revision=1a2b", "owner/name", {"config": "a b", "revision": "1a2b"}),
    ],
)
def test_the_grammar_of_names(address, name, options):
    assert hub_rows._parsed(address) == (name, options)
