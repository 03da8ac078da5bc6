"""Objects of stores: a real S3 server on this machine, and fsspec's own store in memory."""

import os
import sys

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError, UnreachableError, UsageError
from mmrec.sources.media_access import MediaAccess
from mmrec.sources.places import Place


@pytest.fixture(scope="module")
def s3():
    """A bucket ``shop`` on a local server that speaks S3, which fsspec finds through its configuration."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(fsspec.config.conf)
    environment = {name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    os.environ.update(dict.fromkeys(environment, "test"))
    fsspec.config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}"}
    fsspec.filesystem("s3").clear_instance_cache()
    store = fsspec.filesystem("s3")
    if store.exists("shop"):  # all servers of one process share their buckets
        store.rm("shop", recursive=True)
    store.mkdir("shop")
    yield store
    server.stop()
    store.clear_instance_cache()
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    for name, value in environment.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(params=["s3", "memory"])
def bucket(request):
    """Where objects are put, and the store they are put into."""
    store = request.getfixturevalue(request.param)
    return f"{request.param}://shop", store


def test_objects_are_read_and_their_stamps_tell_changes(bucket):
    address, store = bucket
    access = MediaAccess()
    uri = f"{address}/猫/a picture.png"
    store.pipe(uri, b"first")
    reading = access.take(uri)
    assert reading.data == b"first"
    assert reading.stamp.size == 5
    again = access.stat(uri)
    assert again.is_of(reading.stamp.size, reading.stamp.changed)
    store.pipe(uri, b"other")
    assert not access.stat(uri).is_of(reading.stamp.size, reading.stamp.changed)
    assert access.read(uri) == b"other"
    store.pipe(f"{address}/empty", b"")
    assert access.read(f"{address}/empty") == b""


def test_objects_that_cannot_be_read(bucket):
    address, store = bucket
    store.pipe(f"{address}/a", b"abc")
    assert MediaAccess().stat(f"{address}/gone") is None
    with pytest.raises(MediaError, match="no such object") as caught:
        MediaAccess().read(f"{address}/gone")
    assert not isinstance(caught.value, UnreachableError)
    with pytest.raises(MediaError, match="limit of 2 bytes"):
        MediaAccess(Limits(max_bytes=2)).read(f"{address}/a")
    with pytest.raises(MediaError):
        MediaAccess().read(f"{address}-other/a")


def test_a_store_that_does_not_answer_may_another_time(s3):
    s3.clear_instance_cache()
    endpoint = fsspec.config.conf["s3"]
    fsspec.config.conf["s3"] = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 1}}}
    try:
        assert MediaAccess().stat("s3://shop/a") is None
        with pytest.raises(UnreachableError) as caught:
            MediaAccess().read("s3://shop/a")
    finally:
        fsspec.config.conf["s3"] = endpoint
        s3.clear_instance_cache()
    assert "127.0.0.1" not in str(caught.value)


def test_a_root_among_objects(bucket):
    address, store = bucket
    store.pipe({f"{address}/media/a": b"good", f"{address}/media-beside/a": b"bad", f"{address}/a": b"bad"})
    for root in (f"{address}/media", f"{address}/media/"):
        access = MediaAccess(root=root)
        assert access.read(f"{address}/media/a") == b"good"
        assert access.stat(f"{address}/media/a")
        for other in ("media-beside/a", "a", "media/../a", "media/%2e%2e/a", "media/./../a", "media"):
            assert access.stat(f"{address}/{other}") is None
            with pytest.raises(MediaError, match="outside --media-root"):
                access.read(f"{address}/{other}")
        for file in ("/etc/passwd", "file:///etc/passwd", "relative.png"):
            with pytest.raises(MediaError, match="outside --media-root"):
                access.read(file)
    with pytest.raises(MediaError, match="outside --media-root"):
        MediaAccess(root="/").read(f"{address}/media/a")


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "ftp://127.0.0.1/a",
            "sftp://host/a",
            "github://a:b@c/d",
            "local:///etc/passwd",
            "gopher://host/",
            "data://x",
        ),
        *("simplecache::http://127.0.0.1/a", "memory://a::file:///etc/passwd", "s3://a::http://127.0.0.1/"),
        *("ftp://host/t.parquet#row=0&column=a", "https://host/t.parquet#row=0&column=a", "http://h/t#row=0&column=a"),
        *("zip://a.png::http://127.0.0.1/a.zip", "reference://x", "webhdfs://host/a", "smb://host/a", "git://x"),
    ],
)
def test_fsspec_is_asked_for_no_other_kind_of_place(uri, monkeypatch):
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: pytest.fail("fsspec was asked"))
    assert MediaAccess().stat(uri) is None
    with pytest.raises(MediaError):
        MediaAccess().read(uri)


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS", "ftp", "sftp", "github", "zip", "data", "local"])
def test_a_place_made_by_hand_reaches_no_further(scheme, monkeypatch):
    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: pytest.fail("fsspec was asked"))
    made = Place(f"{scheme}://127.0.0.1/folder/a.csv")
    for ask in (made.exists, made.is_folder, made.open, made.parent.exists, lambda: list(made.walk())):
        with pytest.raises(UsageError, match="a source is read from a path, or s3://"):
            ask()


class _Missing:
    """Finds a package to be missing, installed or not."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_missing_package_names_its_extra(scheme, package, extra, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [_Missing(package), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    with pytest.raises(MediaError, match=rf"mmrec\[{extra}\]"):
        MediaAccess().read(f"{scheme}://bucket/a")
