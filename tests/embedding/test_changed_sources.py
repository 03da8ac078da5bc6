"""A source that changed, a delta, and a source of which a part cannot be read: what becomes of the store."""

import gzip
import io
import json
import tarfile

import pytest
from PIL import Image
from source_kinds import KINDS

import mmrec
from mmrec.errors import UsageError
from mmrec.sources import hub_rows
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import list_quarantined

COLUMNS = ColumnSpec("id", ("title",), metadata=("price",))
WORDS = ("apple", "boat", "cat", "drum", "engine", "flower")


def rows(**changes):
    """Six rows, some of them with another title, some dropped (None), some new."""
    titles = {word: f"a {word}" for word in WORDS} | changes
    return [{"id": n, "title": title, "price": len(n)} for n, title in titles.items() if title is not None]


@pytest.fixture
def index(tmp_path, packaged):
    """A function: source's address, columns, how -> tally of indexing it into the one store."""

    def run(address, columns=COLUMNS, **how):
        hub_rows._loaded.cache_clear()
        source = open_source(address, columns)
        layout = Layout(tmp_path / "store")
        return mmrec.index_items(source, source.metadata_schema, layout, packaged, mmrec.Indexing(**how))[0]

    return run


@pytest.fixture
def there(tmp_path):
    """A function: ids in the store, in order."""
    layout = Layout(tmp_path / "store")
    return lambda: sorted(name for batch in ItemTable(layout.items).ids() for name in batch)


def entries(tmp_path):
    return [
        (entry.id, entry.source_row, entry.where) for entry in list_quarantined(Layout(tmp_path / "store").quarantine)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_source_is_followed(kind, index, there, tmp_path):
    write, folder = KINDS[kind], tmp_path / "source"
    tally = index(write(rows(), folder))
    assert (tally.added, tally.encoded["text"], tally.quarantined) == (6, 6, 0)
    tally = index(write(rows(apple="a pear", boat=None, moon="a moon")[::-1], folder))
    assert (tally.added, tally.changed, tally.removed, tally.encoded["text"]) == (1, 1, 1, 2)
    assert there() == ["apple", "cat", "drum", "engine", "flower", "moon"]
    tally = index(write(rows(apple="a pear", boat=None, moon="a moon"), folder))
    assert (tally.added, tally.changed, tally.removed, tally.encoded["text"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_delta_changes_what_it_names_alone(kind, index, there, tmp_path):
    write, folder = KINDS[kind], tmp_path / "source"
    index(write(rows(), folder))
    delta = [
        {"id": "apple", "title": "a pear", "price": 5, "gone": "no"},
        {"id": "moon", "title": "a moon", "price": 4, "gone": "no"},
        {"id": "drum", "title": "", "price": 4, "gone": "yes"},
        {"id": "never there", "title": "", "price": 1, "gone": "yes"},
    ]
    columns = ColumnSpec("id", ("title",), metadata=("price",), deleted="gone")
    tally = index(write(delta, folder), columns, changes_only=True)
    assert (tally.added, tally.changed, tally.removed, tally.quarantined) == (1, 1, 1, 0)
    assert there() == ["apple", "boat", "cat", "engine", "flower", "moon"]


def test_a_delta_may_remove_most_of_a_store_as_it_says_so_itself(index, there, tmp_path):
    write, folder = KINDS["csv"], tmp_path / "source"
    index(write(rows(), folder))
    marked = [{"id": word, "title": "x", "gone": "1"} for word in WORDS[:5]]
    index(write(marked, folder), ColumnSpec("id", ("title",), deleted="gone"), changes_only=True)
    assert there() == ["flower"]


def test_quarantine_of_a_delta_and_of_a_whole_source(index, tmp_path):
    (tmp_path / "a.csv").write_text('id,title,price\n,no id,1\napple,an apple,2\nboat,"  ",3\n')
    (tmp_path / "b.csv").write_text("id,title,price\n,none either,1\ncat,a cat,2\ndrum,,3\n")
    first = [(None, 1, "a.csv line 2"), ("boat", 3, "a.csv line 4")]
    second = [(None, 1, "b.csv line 2"), ("drum", 3, "b.csv line 4")]
    index(tmp_path / "a.csv")
    assert entries(tmp_path) == first
    for _ in range(2):
        index(tmp_path / "b.csv", changes_only=True)
        assert sorted(entries(tmp_path), key=str) == sorted(first + second, key=str)
    index(tmp_path / "b.csv", keep_missing=True)
    # A whole source says itself which of its rows have no ids.
    assert sorted(entries(tmp_path), key=str) == sorted([first[1], *second], key=str)
    index(tmp_path / "b.csv", prune=True)
    assert entries(tmp_path) == second
    (tmp_path / "c.csv").write_text("id,title,price,gone\ndrum,,3,yes\nboat,,3,yes\n")
    index(tmp_path / "c.csv", ColumnSpec("id", ("title",), deleted="gone"), changes_only=True)
    assert entries(tmp_path) == second[:1]


@pytest.mark.parametrize("compressed", [False, True])
def test_what_hides_in_a_damaged_archive_is_not_removed(compressed, index, there, tmp_path):
    write, folder = KINDS["compressed tar" if compressed else "tar"], tmp_path / "source"
    address = write(rows(), folder)
    index(address)
    address = write(rows(apple="a pear"), folder)
    plain = gzip.decompress if compressed else bytes
    data = plain((folder / address.rpartition("/")[2]).read_bytes())[: 4 * 1024 + 100]
    (folder / address.rpartition("/")[2]).write_bytes(gzip.compress(data) if compressed else data)
    tally = index(address)
    assert (tally.changed, tally.removed, tally.quarantined) == (1, 0, 1)
    assert there() == sorted(WORDS)
    assert "shard.tar" in entries(tmp_path)[0][2]
    tally = index(write(rows(boat=None), folder))
    assert (tally.removed, tally.quarantined, entries(tmp_path)) == (1, 0, [])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_pictures_in_archives_are_read_once(mode, index, there, tmp_path):
    path = tmp_path / ("shard.tar.gz" if mode.endswith("gz") else "shard.tar")

    def write(colours):
        with tarfile.open(path, mode) as tar:
            for number, colour in enumerate(colours):
                out = io.BytesIO()
                Image.new("RGB", (32, 32), colour).save(out, "PNG")
                info = tarfile.TarInfo(f"{number}.png")
                info.size = out.tell()
                tar.addfile(info, io.BytesIO(out.getvalue()))

    columns = ColumnSpec("__key__", image=("png",))
    write(["red", "green", "blue"])
    tally = index(path, columns)
    in_hand = mode.endswith("gz")
    assert (tally.added, tally.read, tally.encoded["image"]) == (3, 0 if in_hand else 3, 3)
    tally = index(path, columns)
    assert (tally.changed, tally.read, tally.encoded["image"]) == (0, 0, 0)
    write(["red", "white", "blue"])
    tally = index(path, columns)
    assert (tally.removed, tally.encoded["image"], there()) == (0, 1, ["0", "1", "2"])


def test_a_source_that_lost_most_is_taken_for_broken(index, there, tmp_path):
    write, folder = KINDS["json lines"], tmp_path / "source"
    index(write(rows(), folder))
    (folder / "catalog.jsonl").write_text(json.dumps(rows()[0]) + "\n")
    with pytest.raises(UsageError, match="--prune"):
        index(folder / "catalog.jsonl")
    assert there() == sorted(WORDS)
    index(folder / "catalog.jsonl", changes_only=True)
    assert there() == sorted(WORDS)
