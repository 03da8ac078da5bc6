"""WebDataset archives: items, addresses of members, and what becomes of broken ones."""

import gzip
import io
import json
import os
import tarfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import MediaError, UsageError
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.locations import member_uri, read_from_table, stat_in_table
from mmrec.sources.places import Place
from mmrec.sources.source import open_source
from mmrec.sources.storage import Stamp
from mmrec.sources.tar_members import DamagedTarError, members
from mmrec.types import Item, Modality, Reject


def write_tar(path, files, form=tarfile.PAX_FORMAT):
    """Write `files`, pairs of name and bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    packed = gzip.compress(out.getvalue()) if path.name.endswith("gz") else out.getvalue()
    path.write_bytes(packed)
    return path


@pytest.fixture
def shop(png, sound, tone):
    """Members of three items."""
    about = {"title": "Red boat", "price": 3, "tags": ["a"], "when": "2024-02-29", "txt": "a key like a member"}
    return [
        ("boats/0001.jpg", png("red")),
        ("boats/0001.seg.png", png("blue")),
        ("boats/0001.txt", "Ein rotes Boot 🚤".encode()),
        ("boats/0001.json", json.dumps(about).encode()),
        ("boats/0001.cls", b"7\n"),
        ("boats/0001.npy", b"never looked at"),
        ("boats/.hidden.jpg", b"x"),
        ("0002.WAV", sound(tone(0.1))),
        ("0002.json", b'{"title": "A tone", "price": 2.5}'),
        ("0003.txt", b"Only words"),
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_one_key_are_one_item(tmp_path, shop, name, form):
    path = write_tar(tmp_path / name, shop, form)
    columns = guess_columns(path)
    assert columns == ColumnSpec(
        "__key__", ("title", "txt"), ("jpg", "seg.png"), ("wav",), ("cls", "price", "tags", "when", "json_txt")
    )
    source = open_source(path, columns)
    boat, noise, words = source
    assert [item.id for item in (boat, noise, words)] == ["boats/0001", "0002", "0003"]
    assert (boat.where, boat.row, words.row) == (f"{name} boats/0001", 1, 3)
    assert boat.fields[0].text == "Red boat\nEin rotes Boot 🚤"
    assert [(field.modality, field.column) for field in boat.fields[1:]] == [
        (Modality.IMAGE, "jpg"),
        (Modality.IMAGE, "seg.png"),
    ]
    assert dict(boat.metadata) == {
        "price": 3.0,
        "tags": ["a"],
        "when": boat.metadata["when"],
        "json_txt": "a key like a member",
        "cls": 7,
    }
    assert source.metadata_schema.field("price").type == pa.float64()
    assert source.metadata_schema.field("when").type == pa.date32()
    for item, column, at in [(boat, 1, 0), (boat, 2, 1), (noise, 1, 7)]:
        field = item.fields[column]
        assert read_from_table(field.uri) == shop[at][1]
        assert (field.data is None) == (name == "a.tar")
        assert field.data in {None, shop[at][1]}
    assert source.count == (3 if name == "a.tar" else None)


def test_a_member_is_read_where_it_lies(tmp_path, shop):
    path = write_tar(tmp_path / "a.tar", shop)
    items = list(open_source(path, ColumnSpec("__key__", (), ("jpg",))))
    uri = next(item for item in items if isinstance(item, Item)).fields[0].uri
    assert uri == member_uri(str(path), "boats/0001.jpg", 512, len(shop[0][1]))
    assert stat_in_table(uri) == Stamp(len(shop[0][1]), path.stat().st_mtime_ns)
    # Everything behind the member may be gone: nothing of it is read.
    os.truncate(path, 512 + len(shop[0][1]))
    assert read_from_table(uri) == shop[0][1]
    with pytest.raises(MediaError, match="larger than the limit"):
        read_from_table(uri, 10)


def test_an_archive_that_was_rewritten_gives_no_bytes_of_another_item(tmp_path, shop):
    path = write_tar(tmp_path / "a.tar", shop)
    uri = next(iter(open_source(path, ColumnSpec("__key__", (), ("jpg",))))).fields[0].uri
    write_tar(path, [("boats/0009.jpg", shop[0][1]), *shop])
    with pytest.raises(MediaError, match="has changed"):
        read_from_table(uri)


def test_a_long_or_strange_name_can_be_read_again(tmp_path, png):
    names = ["x" * 150 + ".png", "鳥/鶴 #&?=.png", "dir/" * 60 + "deep.png"]
    path = write_tar(tmp_path / "a.tar", [(name, png(size=(9, 9 + n))) for n, name in enumerate(names)])
    items = list(open_source(path, guess_columns(path)))
    assert [item.id for item in items] == [name.removesuffix(".png") for name in names]
    assert [read_from_table(item.fields[0].uri) for item in items] == [png(size=(9, 9 + n)) for n in range(3)]


@pytest.mark.parametrize("source", ["{1..2}", "[folder]", "{2,1}", "*"])
def test_patterns_and_folders(tmp_path, source):
    for number in (1, 2):
        write_tar(tmp_path / f"shard-{number}.tar", [(f"{number}-{n}.txt", b"words") for n in range(2)])
    path = tmp_path if source == "[folder]" else f"{tmp_path}/shard-{source}.tar"
    items = list(open_source(path, guess_columns(path)))
    first = 2 if source == "{2,1}" else 1
    assert [item.id for item in items] == [f"{first}-0", f"{first}-1", f"{3 - first}-0", f"{3 - first}-1"]
    assert [item.row for item in items] == [1, 2, 3, 4]
    assert items[2].where == f"shard-{3 - first}.tar {3 - first}-0"


def test_keys_that_repeat_across_archives(tmp_path):
    for number in (1, 2):
        write_tar(tmp_path / f"{number}.tar", [("0.txt", b"words")])
    first, second = open_source(tmp_path, ColumnSpec("__key__", ("txt",)))
    assert isinstance(second, Reject)
    assert (second.id, second.where, first.id) == ("0", "2.tar 0", "0")
    assert [item.id for item in open_source(tmp_path, ColumnSpec("__path__", ("txt",)))] == ["1/0", "2/0"]


def test_wrong_patterns(tmp_path):
    write_tar(tmp_path / "a-007.tar", [("0.txt", b"words")])
    columns = ColumnSpec("__key__", ("txt",))
    assert [item.id for item in open_source(f"{tmp_path}/a-{{007..007}}.tar", columns)] == ["0"]
    with pytest.raises(UsageError, match=r"2 of the files .* do not exist, such as .*a-006.tar"):
        open_source(f"{tmp_path}/a-{{006..008}}.tar", columns)
    for pattern in ("{0..999999999999}", "{1..2}{-9..9999999}"):
        with pytest.raises(UsageError, match="more than 1,000,000 files"):
            open_source(f"{tmp_path}/a-{pattern}.tar", columns)
    with pytest.raises(UsageError, match="brace that is not closed"):
        open_source(f"{tmp_path}/a-{{0{{1,2}}.tar", columns)
    with pytest.raises(UsageError, match="All of the files"):
        open_source(f"{tmp_path}/b*.tar", columns)
    (tmp_path / "a-007.csv").write_text("id,text\n1,x\n")
    with pytest.raises(UsageError, match=r"not all .tar or all .parquet"):
        open_source(f"{tmp_path}/a-007.*", columns)
    (tmp_path / "x.png").touch()
    with pytest.raises(UsageError, match="archives in it"):
        open_source(tmp_path, columns)


def test_bad_members_cost_themselves_alone(tmp_path):
    link = tarfile.TarInfo("2.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        files = {"1.txt": b"one", "1.json": b"{oops", "2.txt": b"two", "3.txt": b"caf\xe9", "4": b"x"}
        files |= {"5.txt": b"five", "./5.txt": b"again", "6.json": b"[1]"}
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            if name == "2.txt":
                tar.addfile(link)
        tar.addfile(tarfile.TarInfo("7.json"), io.BytesIO())
    results = list(open_source(tmp_path / "a.tar", ColumnSpec("__key__", ("txt",))))
    assert [(item.id, item.fields[0].text) for item in results if isinstance(item, Item)] == [
        ("1", "one"),
        ("2", "two"),
        ("5", "five"),
    ]
    told = [(r.where, r.id, r.column, r.reason) for r in results if isinstance(r, Reject)]
    assert told[0][:3] == ("a.tar 1", "1", "json")
    assert "1.json cannot be used: it is not JSON" in told[0][3]
    assert told[1] == ("a.tar 2", "2", "jpg", "The member 2.jpg is not a file.")
    assert "UTF-8" in told[2][3]
    assert {where for where, *_ in told} == {f"a.tar {n}" for n in (1, 2, 3, 4, 5, 6, 7)}
    assert not any(r.hides_rows for r in results if isinstance(r, Reject))


def _shards(folder, png, suffix):
    files = [[(f"{shard}-{n}.png", png(size=(40 + n, 30))) for n in range(5)] for shard in range(3)]
    return [write_tar(folder / f"{n}{suffix}", some) for n, some in enumerate(files)], files


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize(
    "damage", ["cut in a member", "cut at a header", "broken header", "no end mark", "noise", "empty"]
)
def test_a_damaged_archive_costs_its_rest_alone(tmp_path, png, suffix, damage):
    paths, files = _shards(tmp_path, png, suffix)
    plain = tmp_path / "plain.tar"
    write_tar(plain, files[1])
    data = bytearray(plain.read_bytes())
    plain.unlink()
    third = list(_offsets(data))[2]
    cut = {"cut in a member": third + 20, "cut at a header": third - 100, "no end mark": data.rfind(b"IEND") + 8}
    match damage:
        case "broken header":
            data[third - 512 : third - 400] = os.urandom(112)
        case "noise":
            data[:] = os.urandom(5000)
        case "empty":
            data[:] = b""
        case _:
            del data[cut[damage] :]
    paths[1].write_bytes(gzip.compress(bytes(data)) if suffix.endswith("gz") else bytes(data))
    results = list(open_source(tmp_path, ColumnSpec("__key__", (), ("png",))))
    whole = {"noise": 0, "empty": 0, "no end mark": 4}.get(damage, 2)
    expected = [f"0-{n}" for n in range(5)] + [f"1-{n}" for n in range(5)] + [f"2-{n}" for n in range(5)]
    found = [item for item in results if isinstance(item, Item)]
    assert {item.id for item in found} <= set(expected)
    assert {f"1-{n}" for n in range(max(whole - 1, 0))} <= {item.id for item in found}
    assert {item.id for item in found if not item.id.startswith("1-")} == set(expected[:5] + expected[10:])
    (reject,) = [result for result in results if isinstance(result, Reject)]
    assert reject.hides_rows
    assert reject.where.startswith(f"1{suffix}")
    assert "rest of the archive" in reject.reason
    contents = dict(pair for some in files for pair in some)
    for item in found:
        assert read_from_table(item.fields[0].uri) == contents[f"{item.id}.png"]


def test_a_compressed_archive_that_is_cut_off(tmp_path, png):
    paths, _ = _shards(tmp_path, png, ".tar.gz")
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 2])
    results = list(open_source(tmp_path, ColumnSpec("__key__", (), ("png",))))
    assert [r.hides_rows for r in results if isinstance(r, Reject)] == [True]
    assert sum(isinstance(r, Item) and not r.id.startswith("1-") for r in results) == 10


def test_no_archive_at_all(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not an archive" * 100)
    with pytest.raises(UsageError, match=r"a\.tar.*0001\.jpg.*cannot be read"):
        open_source(tmp_path / "a.tar", ColumnSpec("__key__", ("txt",)))


def _offsets(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        yield from (info.offset_data for info in tar)


@settings(max_examples=60, deadline=None)
@given(files=st.lists(st.binary(max_size=1500), min_size=1, max_size=6), cut=st.integers(0, 12_000))
def test_members_are_given_whole_or_not_at_all(tmp_path_factory, files, cut):
    """Wherever an archive is cut off, and it is told unless nothing but its end mark is gone."""
    path = write_tar(tmp_path_factory.mktemp("law") / "a.tar", [(f"{n}.bin", some) for n, some in enumerate(files)])
    whole = path.read_bytes()
    kept = whole[:cut]
    path.write_bytes(kept)
    given_members, is_whole = {}, True
    try:
        for member in members(Place(str(path))):
            given_members[member.name] = member.read(10_000)
    except DamagedTarError:
        is_whole = False
    assert given_members == {f"{n}.bin": files[n] for n in range(len(given_members))}
    if is_whole:
        assert len(given_members) == len(files)
