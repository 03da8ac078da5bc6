"""--media-root: what lies outside is never read, however it is named and whatever changes meanwhile."""

import os
import resource
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.errors import MediaError, UnreachableError
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.media_access import MediaAccess
from mmrec.sources.source import open_source

SECRET = b"secret"


@pytest.fixture
def place(tmp_path) -> Path:
    """A root with files and links of all kinds, and secrets beside it."""
    root = tmp_path / "root"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.png").write_bytes(b"good")
    (root / "deep" / "er" / "猫.png").write_bytes(b"good")
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "secret.png").write_bytes(SECRET)
    links = {
        "good": "a.png",
        "deep/up": "../a.png",
        "deep/around": "../deep/er",
        "absolute-good": str(root / "a.png"),
        "bad": "../secret.png",
        "absolute-bad": str(tmp_path / "secret.png"),
        "folder-bad": "..",
        "folder-beside": "../root-beside",
        "twice": "bad",
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "nowhere": "not-there",
        "device": "/dev/zero",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    return tmp_path


def _reason(access: MediaAccess, uri: str) -> str:
    assert access.stat(uri) is None
    with pytest.raises(MediaError) as caught:
        access.read(uri)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def test_what_lies_inside_is_read(place):
    root = place / "root"
    (place / "alias").symlink_to("root")
    for given_root in (root, str(root), place / "alias", f"{root}/", root / "deep" / ".."):
        access = MediaAccess(root=given_root)
        for name in ("a.png", "good", "deep/up", "deep/around/猫.png", "absolute-good", "deep/../a.png", "./a.png"):
            for uri in (
                f"{root}/{name}",
                f"{place}/alias/{name}",
                f"file://{root}/{name}",
                f"file://localhost{root}/{name}",
            ):
                assert access.read(uri) == b"good", uri
                assert access.take(uri).stamp == access.stat(uri)
    assert MediaAccess(root=root).read(f"file://{root}/deep/er/%E7%8C%AB.png") == b"good"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../secret.png",
            "bad",
            "absolute-bad",
            "twice",
            "folder-bad/secret.png",
            "folder-beside/secret.png",
            "device",
        ),
        *("deep/../../secret.png", "../root-beside/secret.png", "../root/../secret.png", "../not-there", "/etc/passwd"),
        *("/etc/shadow", "/proc/self/environ", "/dev/zero", "../../../../../../etc/passwd", ".."),
    ],
)
def test_what_lies_outside_is_not(name, place):
    root = place / "root"
    access = MediaAccess(root=root)
    path = name if name.startswith("/") else f"{root}/{name}"
    for uri in (path, f"file://{path}", f"file://{path.replace('..', '%2e%2e')}", f"FILE://localhost{path}"):
        assert "outside --media-root" in _reason(access, uri)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *(("loop", "symbolic links"), ("loop-a", "symbolic links"), ("loop-a/x", "symbolic links|Not a directory")),
        *(
            ("nowhere", "No such file"),
            ("not-there", "No such file"),
            ("pipe", "not a regular"),
            ("deep", "not a regular"),
        ),
        *(("", "not a regular"), ("a.png/x", "Not a directory"), ("a\0b", "not a valid path"), ("\ud800", "path|file")),
        *(("x" * 300, "too long"), ("x/" * 3000, "too long|No such file")),
    ],
)
@pytest.mark.parametrize("is_confined", [True, False])
def test_what_cannot_be_read_inside(name, word, is_confined, place):
    root = place / "root"
    with pytest.raises(MediaError, match=word):
        MediaAccess(root=root if is_confined else None).read(f"{root}/{name}")


def test_files_of_another_machine(place):
    assert "another machine" in _reason(MediaAccess(), "file://server/share/a.png")
    assert "another machine" in _reason(MediaAccess(root=place), f"file://server{place}/root/a.png")


def test_without_a_root_all_is_read(place):
    assert MediaAccess().read(str(place / "root" / "bad")) == SECRET
    assert MediaAccess().read(f"file://{place}/secret.png") == SECRET


@pytest.mark.parametrize("is_confined", [True, False])
def test_a_machine_out_of_files_may_read_it_another_time(is_confined, place):
    access = MediaAccess(root=place / "root" if is_confined else None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(UnreachableError, match="Too many open files"):
            access.read(str(place / "root" / "a.png"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert access.read(str(place / "root" / "a.png")) == b"good"


def _cell(table: Path) -> str:
    return f"{table}#row=0&column=image"


def test_tables_outside_are_read_only_where_they_are_the_catalog(place):
    data = pa.table({"id": ["1"], "image": [b"good"]})
    outside, inside = place / "catalog.parquet", place / "root" / "inside.parquet"
    pq.write_table(data, outside)
    pq.write_table(data, inside)
    (place / "root" / "linked.parquet").symlink_to("../catalog.parquet")
    confined = MediaAccess(root=place / "root")
    assert confined.read(_cell(inside)) == b"good"
    for table in (outside, place / "root" / "linked.parquet", place / "root" / ".." / "catalog.parquet"):
        assert "outside --media-root" in _reason(confined, _cell(table))
    assert "not a regular" in _reason(confined, _cell(place / "root" / "pipe"))
    assert "not a regular" in _reason(MediaAccess(), _cell(place / "root" / "pipe"))
    for odd in ("a\0b", "\ud800", "x" * 5000):
        for access in (confined, MediaAccess(), MediaAccess(root=place / "root", source=outside)):
            with pytest.raises(MediaError):
                access.read(_cell(place / "root" / odd))
            assert access.stat(_cell(place / "root" / odd)) is None
    assert "none of that name" in _reason(confined, _cell(place / "root" / "gone"))
    for source in (outside, str(outside), place):
        of_catalog = MediaAccess(root=place / "root", source=source)
        assert of_catalog.read(_cell(outside)) == b"good"
        assert "outside --media-root" in _reason(of_catalog, str(outside))
    (item,) = open_source(outside, ColumnSpec("id", (), ("image",)))
    assert confined.read(item.fields[0]) == b"good"  # the source gave the bytes itself


def test_a_path_swapped_between_check_and_opening_is_not_read(place):
    """Another process swaps a folder and a link to a secret, over and over; not one read gives the secret."""
    root = place / "root"
    (root / "swap").mkdir()
    (root / "swap" / "x.png").write_bytes(b"good")
    (place / "outside").mkdir()
    (place / "outside" / "x.png").write_bytes(SECRET)
    (root / "link").symlink_to("../outside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for one, other in (("swap", "swap-away"), ("link", "swap"), ("swap", "link"), ("swap-away", "swap")):
                (root / one).rename(root / other)

    access = MediaAccess(root=root)
    swapping = threading.Thread(target=swap)
    swapping.start()
    found = set()
    try:
        for _ in range(3000):
            try:
                found.add(access.read(str(root / "swap" / "x.png")))
            except MediaError as error:
                found.add(str(error))
    finally:
        over.set()
        swapping.join()
    assert SECRET not in found
    assert b"good" in found
    assert any("outside" in str(one) or "Not a directory" in str(one) for one in found)  # it was raced


_PARTS = st.sampled_from(
    ["..", ".", "", "root", "deep", "er", "good", "bad", "loop", "folder-bad", "a.png", "secret.png"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(["{root}", "{root}/..", "/", "file://{root}", "file://", "", "s3://b", "memory://{root}"]),
    parts=st.lists(st.one_of(_PARTS, st.text(max_size=8)), max_size=6),
    end=st.sampled_from(["", "#row=0&column=image", "#row=0&column=", "::file:///etc/passwd"]),
)
def test_any_uri_gives_bytes_from_inside_or_a_media_error(place, start, parts, end):
    uri = "/".join([start.format(root=place / "root"), *parts]) + end
    access = MediaAccess(root=place / "root")
    try:
        found = access.read(uri)
    except MediaError as error:
        found = str(error)
    assert found == b"good" or str(found).endswith(".")
    access.stat(uri)
