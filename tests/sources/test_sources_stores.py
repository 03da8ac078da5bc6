"""Catalogs in object stores, a local server that speaks S3 and fsspec's memory, give what the files on disk give."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from mmrec.errors import SourceError, UsageError
from mmrec.sources import storage
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.locations import read_from_table
from mmrec.sources.source import open_source
from mmrec.types import Item, Reject


@pytest.fixture(scope="session")
def s3_server():
    """Address of a server that speaks S3, on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["s3", "memory"])
def store(request, monkeypatch):
    """URL of an empty folder in an object store."""
    monkeypatch.setattr(fsspec.config, "conf", {})
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        yield "memory://shop/spring"
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    storage.configure({"s3": {"endpoint_url": request.getfixturevalue("s3_server")}})
    system = fsspec.filesystem("s3", use_listings_cache=False)
    if system.exists("s3://shop"):
        system.rm("s3://shop", recursive=True)
    system.mkdir("s3://shop")
    yield "s3://shop/spring"


def upload(path: Path, url: str) -> str:
    """Copy a file or folder into a store. Returns its URL there."""
    system = fsspec.filesystem(url.partition("://")[0])
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        system.pipe_file(f"{url}/{file.relative_to(path.parent)}", file.read_bytes())
    return f"{url}/{path.name}"


def _without_photo(record):
    return {name: value for name, value in record.items() if name != "photo"}


def _tars(records, folder):
    (folder / "shards").mkdir()
    for shard, some in enumerate((records[:2], records[2:])):
        with tarfile.open(folder / "shards" / f"{shard}.tar{'.gz' * shard}", "w:gz" if shard else "w") as tar:
            for record in some:
                (folder / "row.json").write_text(json.dumps(_without_photo(record)))
                tar.add(folder / "row.json", f"{record['id']}.json")
                tar.add(folder / record["photo"], f"{record['id']}.png")
    return folder / "shards"


def _media_folder(records, folder):
    root = folder / "media"
    for record in records:
        (root / record["kind"]).mkdir(parents=True, exist_ok=True)
        (root / record["kind"] / f"{record['id']}.png").write_bytes((folder / record["photo"]).read_bytes())
        (root / record["kind"] / f"{record['id']}.json").write_text(json.dumps(_without_photo(record)))
        (root / record["kind"] / f"{record['id']}.txt").write_text("beside")
    return root


def _parquet_of_bytes(records, folder):
    rows = [{**record, "photo": {"bytes": (folder / record["photo"]).read_bytes(), "path": None}} for record in records]
    (folder / "tables").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:2]), folder / "tables" / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[2:]), folder / "tables" / "b.parquet")
    return folder / "tables"


def _dataset_of_bytes(records, folder):
    rows = [{**record, "photo": {"bytes": (folder / record["photo"]).read_bytes(), "path": None}} for record in records]
    datasets.disable_progress_bars()
    datasets.Dataset(pa.Table.from_pylist(rows)).save_to_disk(str(folder / "saved"), num_shards=2)
    return folder / "saved"


KINDS = [_tars, _media_folder, _parquet_of_bytes, _dataset_of_bytes]


@pytest.fixture
def records(tmp_path, png):
    """Rows, and the pictures that they name."""
    rows = []
    for n in range(5):
        (tmp_path / f"{n}.png").write_bytes(png(size=(20 + n, 20)))
        row = {
            "id": f"i{n}",
            "title": f"a thing, number {n}",
            "photo": f"{n}.png",
            "price": n + 0.5,
            "kind": "ab"[n % 2],
        }
        rows.append(row)
    return rows


def _without_places(items):
    return [
        replace(item, fields=tuple(replace(field, uri=None, data=None) for field in item.fields), where="")
        for item in items
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_media_inside_are_read_and_read_again(kind, store, records, tmp_path, png):
    path = kind(records, tmp_path)
    url = upload(path, store)
    columns = guess_columns(url)
    assert columns == guess_columns(path)
    here, there = list(open_source(path, columns)), list(open_source(url, columns))
    assert all(isinstance(item, Item) for item in here)
    assert _without_places(here) == _without_places(there)
    assert [item.where for item in here] == [item.where for item in there]
    assert len(there) == 5
    for item in there:
        (field,) = [field for field in item.fields if field.uri]
        assert field.uri.startswith(f"{store}/")
        expected = png(size=(20 + int(item.id[-1]), 20))
        if "#" in field.uri:
            assert field.data == expected == read_from_table(field.uri)
        else:
            assert fsspec.filesystem(store.partition("://")[0]).cat_file(field.uri) == expected


def test_tables_of_paths(write, store, records, tmp_path):
    path = write(records, tmp_path)
    url = upload(path, store)
    columns = ColumnSpec("id", ("title",), ("photo",), (), ("price", "kind"))
    assert guess_columns(url) == columns
    source = open_source(url, columns)
    folder = url if path.is_dir() else store
    assert [item.fields[1].uri for item in source] == [f"{folder}/{n}.png" for n in range(5)]
    assert _without_places(source) == _without_places(open_source(path, columns))
    assert source.metadata_schema == open_source(path, columns).metadata_schema


def test_patterns(store, tmp_path, records):
    url = upload(_tars(records, tmp_path), store)
    columns = ColumnSpec("__key__", ("title",))
    assert [item.id for item in open_source(f"{url}/{{0..0}}.tar", columns)] == ["i0", "i1"]
    assert [item.id for item in open_source(f"{url}/*.tar*", columns)] == [f"i{n}" for n in range(5)]
    with pytest.raises(UsageError, match="do not exist"):
        open_source(f"{url}/{{0..7}}.tar", columns)


def test_what_a_catalog_in_a_store_may_name(store, tmp_path):
    names = ["a.png", "../up.png", "../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "s3://other/b.png"]
    rows = [{"id": str(n), "title": "t", "photo": name} for n, name in enumerate(names)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = list(open_source(upload(tmp_path / "c.jsonl", store), ColumnSpec("id", ("title",), ("photo",))))
    uris = {item.id: [field.uri for field in item.fields if field.uri] for item in results if isinstance(item, Item)}
    top = store.removesuffix("/spring")
    assert uris == {"0": [f"{store}/a.png"], "1": [f"{top}/up.png"], "2": [], "3": [], "4": [], "5": [names[5]]}
    reasons = {reject.id: reject.reason for reject in results if isinstance(reject, Reject)}
    assert "out of the bucket" in reasons["2"]
    assert "cannot name a path of this machine" in reasons["3"]
    assert reasons["3"] == reasons["4"]


def test_nothing_there(store):
    with pytest.raises(UsageError, match=rf"There is no {store}/gone\.csv"):
        open_source(f"{store}/gone.csv", ColumnSpec("id", ("text",)))


def test_a_store_that_does_not_answer(monkeypatch, store):
    if store.startswith("memory"):
        pytest.skip("memory always answers")
    monkeypatch.setattr(fsspec.config, "conf", {})
    storage.configure({"s3": {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}})
    with pytest.raises(UsageError, match=r"s3://shop/spring/a.csv cannot be read: .*endpoint"):
        open_source(f"{store}/a.csv", ColumnSpec("id", ("text",)))


def test_a_store_that_fails_on_the_way_ends_the_job_and_says_so(monkeypatch, store, tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{n},{'x' * 1000}\n" for n in range(20_000)))
    source = open_source(upload(tmp_path / "a.csv", store), ColumnSpec("id", ("text",)))
    if store.startswith("memory"):
        fsspec.filesystem("memory").rm(f"{store}/a.csv")
        with pytest.raises(SourceError, match=r"Reading .* stopped"):
            list(source)
        return
    items = iter(source)
    next(items)
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.rm(f"{store}/a.csv")
    with pytest.raises(SourceError, match=r"Reading .* stopped.*What was encoded is kept"):
        list(items)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://example.org/a.parquet", r"web address.*hf:OWNER/NAME"),
        ("ftp://example.org/a.csv", "scheme ftp://.*s3://, gs://"),
        ("simplecache::s3://shop/a.csv", "There is no"),
    ],
)
def test_other_addresses_are_refused(address, words):
    with pytest.raises(UsageError, match=words):
        open_source(address, ColumnSpec("id", ("text",)))


@pytest.mark.parametrize(("scheme", "extra", "package"), [("s3", "s3", "s3fs"), ("gs", "gcs", "gcsfs")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, scheme, extra, package):
    def missing(*_, **__):
        raise ImportError

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UsageError, match=rf"{scheme}:// needs the package {package}: .*mmrec\[{extra}\]"):
        open_source(f"{scheme}://shop/a.csv", ColumnSpec("id", ("text",)))


def test_storage_options_are_for_stores_alone():
    with pytest.raises(UsageError, match="allowed are s3, gs"):
        storage.configure({"file": {}})


def test_a_file_url_is_a_path(tmp_path):
    (tmp_path / "a b.csv").write_text("id,text,image\n1,x,file:///pictures/a%20b.png\n")
    (item,) = open_source(f"file://{tmp_path}/a%20b.csv", ColumnSpec("id", ("text",), ("image",)))
    assert item.fields[1].uri == "/pictures/a b.png"
