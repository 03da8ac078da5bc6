"""A catalog described in a TOML file: what it may say, and who wins."""

import json
from pathlib import Path

import fsspec
import pytest

from mmrec.errors import UsageError
from mmrec.jobs.index_options import IndexOptions, read_spec, with_spec
from mmrec.sources.columns import ColumnSpec
from mmrec.types import Modality
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

WHOLE = """
source = "data/catalog.csv"
encoders = "mine.toml"
keep_missing = true
device = "cpu"
dtype = "fp32"

[columns]
id = "sku"
text = ["title", "body"]
image = "front"
metadata = []
deleted = "gone"

[weights]
text = 2

[storage.s3]
endpoint_url = "http://localhost:9000"
client_kwargs = {region_name = "eu-west-1"}
"""


@pytest.fixture
def write(tmp_path):
    """A function: TOML -> its file, in a folder of its own."""

    def written(text: str) -> Path:
        (tmp_path / "specs").mkdir(exist_ok=True)
        (tmp_path / "specs" / "catalog.toml").write_text(text)
        return tmp_path / "specs" / "catalog.toml"

    return written


def test_a_whole_file(write):
    path = write(WHOLE)
    made = with_spec(IndexOptions(path, Path("store")), ())
    assert made == IndexOptions(
        source=str(path.parent / "data/catalog.csv"),
        store=Path("store"),
        columns=ColumnSpec("sku", ("title", "body"), ("front",), deleted="gone"),
        encoders=str(path.parent / "mine.toml"),
        weights={Modality.TEXT: 2.0, Modality.IMAGE: 1.0, Modality.AUDIO: 1.0},
        keep_missing=True,
        device="cpu",
        encoders_from_file=True,
        storage={"s3": {"endpoint_url": "http://localhost:9000", "client_kwargs": {"region_name": "eu-west-1"}}},
    )


def test_flags_win_even_where_they_equal_the_defaults(write):
    flags = IndexOptions(write(WHOLE), Path("store"), ColumnSpec(text=("name",)), encoders="packaged", device="auto")
    made = with_spec(flags, {"encoders", "device"})
    assert (made.encoders, made.device, made.keep_missing) == ("packaged", "auto", True)
    assert not made.encoders_from_file
    assert made.columns == ColumnSpec("sku", ("name",), ("front",), deleted="gone")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://shop/catalog.csv", "s3://shop/catalog.csv"),
        ("/data/catalog.csv", "/data/catalog.csv"),
        ("../catalog.csv", "{}/../catalog.csv"),
        ("hf:owner/name?split=train", "hf:owner/name?split=train"),
        ("hf:./data", "hf:{}/data"),
        ("shard-{000..099}.tar", "{}/shard-{{000..099}}.tar"),
    ],
)
def test_relative_paths_start_from_the_file(write, given, expected):
    path = write(f'source = "{given}"')
    assert read_spec(path).source == expected.format(path.parent)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the key source is missing"),
        ('source = "a"\nprune = true', "no key prune; allowed here are source, columns, types, encoding, encoders"),
        ('source = "a"\n[columns]\ntxet = "a"', "no key columns.txet; allowed here are id, text, image, audio"),
        ('source = "a"\n[columns]\ntext = [1]', r"columns.text.0 is 1: input should be a valid string"),
        ('source = "a"\n[columns]\nid = ""', "columns.id is '': string should have at least 1"),
        ('source = "a"\n[weights]\nsmell = 1', r"weights.smell is 'smell'; allowed are 'text', 'image' or 'audio'"),
        ('source = "a"\n[weights]\ntext = -1', "weights.text is -1: input should be greater than or equal to 0"),
        ('source = "a"\n[weights]\ntext = inf', "weights.text is inf: input should be a finite number"),
        ('source = "a"\ndtype = "fp8"', "dtype is 'fp8'; allowed are 'fp32', 'bf16' or 'fp16'"),
        ('source = "a"\ndevice = "tpu"', "No device is called 'tpu'"),
        ('source = "a"\n[storage.ftp]\na = 1', "storage.ftp is 'ftp'; allowed are 's3' or 'gs'"),
        ('source = "a"\nkeep_missing = "maybe"', "keep_missing is 'maybe'"),
        ("source = ", "not valid TOML"),
        ('source = "a"\nx = 1\ny = 2', "no key x; .*no key y"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(write, text, words):
    with pytest.raises(UsageError, match=words):
        read_spec(write(text))


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match=r"catalog.toml cannot be read: No such file"):
        read_spec(tmp_path / "catalog.toml")


def test_a_catalog_is_indexed_by_its_file_and_from_a_store(write, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fsspec.config, "conf", {})
    fsspec.filesystem("memory").pipe_file("/spring/a.csv", b"sku,title,gone\n1,a boat,\n2,a cat,\n3,a drum,yes\n")
    path = write('source = "memory://spring/a.csv"\n[columns]\nid = "sku"\ntext = "title"\ndeleted = "gone"\n')
    store = str(tmp_path / "store")
    assert run_app(app, ["index", str(path), store, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["items"] == 2
    fsspec.filesystem("memory").pipe_file("/spring/a.csv", b"sku,title,gone\n1,a boat,yes\n4,a moon,\n")
    assert run_app(app, ["index", str(path), store, "--add", "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["items"], told["added"], told["removed"]) == (2, 1, 1)


def test_guessed_columns_are_told_as_a_command(tmp_path, capsys):
    (tmp_path / "my catalog.csv").write_text("id,title,price,gone\n1,a boat,3,no\n2,a cat,4,yes\n")
    arguments = ["index", str(tmp_path / "my catalog.csv"), str(tmp_path / "store"), "--yes", "--deleted", "gone"]
    assert run_app(app, arguments) == ExitCode.DONE
    told = capsys.readouterr().err.replace("\n", " ")
    assert "--id id --text title --metadata price --deleted gone" in told
    assert "my catalog.csv'" in told
