"""Full disks, lost permissions, readers and writers at once, killed writers, stores of other versions: the real thing.

Small disks and read-only ones are mounted, which only root may do; without that these tests are skipped and say so.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from exchange_shop import SCHEMA

import mmrec
from mmrec.encoders.protocol import Sample
from mmrec.errors import MmrecError, StoreBusyError, StoreError
from mmrec.exchange.export import Export, export_vectors
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import FORMAT_VERSION, Layout
from mmrec.storage.lock import file_lock, job_lock
from mmrec.storage.tables import MOST_SMALL_FRAGMENTS
from mmrec.types import Field, Item, Modality, Space

SPACE = Space("cheap", 64, "c" * 40)


class Cheap:
    """A vector by hash of the text, so that processes start at once."""

    spaces = {Modality.TEXT: (SPACE,)}  # noqa: RUF012
    batch_cost = 64
    module = None

    def prepare(self, _, content):
        return Sample(np.array([content]), 1)

    def encode(self, _, samples):
        seeds = [
            int.from_bytes(hashlib.blake2b(str(one.tensor[0]).encode(), digest_size=8).digest()) for one in samples
        ]
        found = np.stack([np.random.default_rng(seed).normal(size=SPACE.dim) for seed in seeds]).astype(np.float32)
        return {SPACE.name: found / np.linalg.norm(found, axis=1, keepdims=True)}


def items(texts, shelf="a"):
    return [
        Item(name, (Field(Modality.TEXT, "t", text=text),), {"shelf": shelf}, n)
        for n, (name, text) in enumerate(texts.items())
    ]


def index(layout, texts, **how):
    return mmrec.index_items(items(texts), SCHEMA, layout, [Cheap()], mmrec.Indexing(**how))


def numbered(count, word="text"):
    return {f"i{n}": f"{word} {n}" for n in range(count)}


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "store")


@contextmanager
def disk(path, megabytes):
    """Mount a small disk. Skips the test where this user may not."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"only root may mount a small disk: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path, mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True, capture_output=True)


def files(root):
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_a_full_disk_is_told_and_the_store_before_it_still_answers(tmp_path):
    with disk(tmp_path / "disk", 24) as room:
        layout = Layout(room / "store")
        _, made = index(layout, numbered(500))
        (room / "ballast").write_bytes(bytes(shutil.disk_usage(room).free - 400_000))
        before = mmrec.open(layout.root, encoders=[Cheap()])
        answer = [hit.id for hit in before.search("text 7", k=5).hits]
        for fails in (
            lambda: index(layout, numbered(9000, "new")),
            lambda: mmrec.open(layout.root, encoders=[Cheap()]).upsert(items(numbered(9000, "newer"))),
            lambda: export_vectors(layout, room / "out.parquet", Export(dtype="float32")),
            lambda: export_vectors(layout, room / "out", Export(dtype="float32", format="datasets")),
        ):
            (room / "more").write_bytes(bytes(max(0, shutil.disk_usage(room).free - 30_000)))
            with pytest.raises(StoreError, match="cannot be written"):
                fails()
            (room / "more").unlink()
        assert not (room / "out.parquet").exists()
        assert not (room / "out").exists()
        again = mmrec.open(layout.root, encoders=[Cheap()])
        assert again.status()["items"] == made.items == 500
        assert [hit.id for hit in again.search("text 7", k=5).hits] == answer
        (room / "ballast").unlink()
        tally, made = index(layout, numbered(600))
        assert (tally.added, made.items) == (100, 600)
        assert export_vectors(layout, room / "out.parquet", Export()).rows == 600


def test_a_read_only_store_is_searched_and_refuses_changes_in_words(tmp_path):
    with disk(tmp_path / "disk", 24) as room:
        layout = Layout(room / "store")
        index(layout, numbered(200))
        mmrec.open(layout.root, encoders=[Cheap()]).upsert(items({"fresh": "a fresh one"}))
        before = files(layout.root)
        remount(room, "ro")
        engine = mmrec.open(layout.root, encoders=[Cheap()])
        assert engine.search("a fresh one", k=1).hits[0].id == "fresh"
        assert engine.similar("i3", where="shelf = 'a'").hits
        assert engine.status()["items"] == 201
        assert engine.quarantined() == []
        assert len(list(engine.items(limit=5))) == 5
        assert export_vectors(layout, tmp_path / "out.parquet", Export()).rows == 201
        for change in (
            lambda: engine.upsert(items({"late": "too late"})),
            lambda: engine.delete(["i3"]),
            lambda: engine.rollback(1),
            lambda: index(layout, numbered(300)),
        ):
            with pytest.raises(StoreError, match="Read-only file system"):
                change()
        remount(room, "rw")
        assert files(layout.root) == before
        assert engine.delete(["i3"]) == 1


AS_NOBODY = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import mmrec
from mmrec.errors import MmrecError
from mmrec.storage.layout import Layout
from test_store_accidents import Cheap, index, items, numbered

def use(store):
    engine = mmrec.open(store, encoders=[Cheap()])
    found = engine.search("text 3", k=1).hits[0].id
    said = []
    for change in (
        lambda: engine.upsert(items({"late": "too late"})),
        lambda: engine.delete(["i3"]),
        lambda: index(Layout(store), numbered(300)),
    ):
        try:
            change()
            said.append("done")
        except MmrecError as error:
            said.append(f"{type(error).__name__}: {error}")
    return [found, *said]

use(Path(sys.argv[2]))  # all is imported by now, from where nobody may not look
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(json.dumps(use(Path(sys.argv[1]))))
"""


@pytest.fixture
def seen_by_all():
    """A folder that other users may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="mmrec-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_permission_to_write_may_search(seen_by_all, tmp_path):
    layout = Layout(seen_by_all / "store")
    index(layout, numbered(200))
    shutil.copytree(layout.root, tmp_path / "copy")
    for path in (layout.root, *layout.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = files(layout.root)
    command = [sys.executable, "-c", AS_NOBODY, str(layout.root), str(tmp_path / "copy"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(done.stdout)
    assert first == "i3"
    assert len(others) == 3
    for said in others:
        assert said.startswith("StoreError: ")
        assert "Permission denied" in said
    assert files(layout.root) == before


def test_a_second_job_says_so_at_once_and_live_changes_go_on(layout):
    index(layout, numbered(50))
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    under_way, finish = threading.Event(), threading.Event()

    def source():
        yield from items(numbered(60))
        under_way.set()
        assert finish.wait(60)

    job = threading.Thread(target=mmrec.index_items, args=(source(), SCHEMA, layout, [Cheap()], mmrec.Indexing()))
    job.start()
    try:
        assert under_way.wait(60)
        with pytest.raises(StoreBusyError, match="another job is indexing a catalog"):
            index(layout, numbered(70))
        assert engine.upsert(items({"live": "alive"})).added == 1
        assert engine.search("alive", k=1).hits[0].id == "live"
    finally:
        finish.set()
        job.join()
    assert {name for some in ItemTable(layout.items).ids() for name in some} == {*numbered(60), "live"}


def test_what_was_changed_live_during_a_job_is_newer_than_what_the_job_read(layout):
    index(layout, numbered(20))
    engine = mmrec.open(layout.root, encoders=[Cheap()])

    def source():
        yield from items({**numbered(20, "edited"), "brand-new": "from the source"})
        engine.upsert(items({"i3": "a live edit", "brand-new": "a live one", "i4": "text 4"}))
        engine.delete(["i5"])

    def run():
        return mmrec.index_items(source(), SCHEMA, layout, [Cheap()], mmrec.Indexing())

    tally, _ = run()
    assert engine.show("i3").text == "a live edit"
    assert engine.show("brand-new").text == "a live one"
    assert engine.show("i4").text == engine.show("i4").text == "edited 4"  # written live, but not changed
    assert "i5" not in ItemTable(layout.items).by_id(["i5"])
    assert engine.show("i6").text == "edited 6"
    assert (tally.added, tally.changed) == (0, 18)
    index(layout, {**numbered(20, "edited"), "brand-new": "from the source"})
    assert engine.show("i3").text == "edited 3"  # the source has the last word again
    assert engine.show("i5").text == "edited 5"


def test_a_column_that_a_live_change_widened_during_a_job_does_not_make_all_rows_newer(layout):
    whole = pa.schema([("shelf", pa.int64())])
    source = [Item(one.id, one.fields, {"shelf": n}, n) for n, one in enumerate(items(numbered(20)))]
    mmrec.index_items(source, whole, layout, [Cheap()], mmrec.Indexing())
    engine = mmrec.open(layout.root, encoders=[Cheap()])

    def edited():
        for one in source:
            yield Item(one.id, (Field(Modality.TEXT, "t", text=f"edited {one.id}"),), one.metadata, one.row)
        engine.upsert(
            [Item("half", (Field(Modality.TEXT, "t", text="half"),), {"shelf": 0.5})],
            pa.schema([("shelf", pa.float64())]),
        )

    mmrec.index_items(edited(), whole, layout, [Cheap()], mmrec.Indexing())
    assert {engine.show(name).text for name in numbered(20)} == {f"edited i{n}" for n in range(20)}
    assert engine.show("half").metadata == {"shelf": 0.5}


READER = """
import json, sys
sys.path.insert(0, sys.argv[2])
import mmrec
from test_store_accidents import Cheap
engine = mmrec.open(sys.argv[1], encoders=[Cheap()])
print("ready", flush=True)
for line in sys.stdin:
    answers = [engine.search(f"text {n}", k=60) for n in range(20)]
    told = [[one.generation, sorted({hit.metadata["shelf"] for hit in one.hits}), len(one.hits)] for one in answers]
    print(json.dumps(told))
    sys.stdout.flush()
"""


@pytest.mark.slow
def test_a_reader_in_another_process_sees_each_edition_whole(layout):
    def publish(shelf):
        how = mmrec.Indexing(refit=True)
        return mmrec.index_items(items(numbered(60), shelf), SCHEMA, layout, [Cheap()], how)[1].number

    publish("s0")
    command = [sys.executable, "-c", READER, str(layout.root), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        stop, seen = threading.Event(), []

        def ask():
            while not stop.is_set():
                reader.stdin.write("\n")
                reader.stdin.flush()
                seen.extend(json.loads(reader.stdout.readline()))

        asking = threading.Thread(target=ask)
        asking.start()
        assert [publish(f"s{n}") for n in range(1, 6)] == [2, 3, 4, 5, 6]
        stop.set()
        asking.join()
        reader.stdin.close()
    assert all((len(shelves), count) == (1, 60) for _, shelves, count in seen)  # all items of one edition, none of two
    assert [number for number, _, _ in seen] == sorted(number for number, _, _ in seen)
    editions = [int(shelves[0][1:]) for _, shelves, _ in seen]
    assert editions == sorted(editions)
    assert len(set(editions)) > 1
    assert all(edition >= number - 1 for (number, _, _), edition in zip(seen, editions, strict=True))


@pytest.mark.slow
def test_many_single_upserts_are_compacted_and_take_nothing_from_a_generation(layout):
    _, made = index(layout, numbered(300))
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    pinned = ItemTable(layout.items, made.items_version)
    expected = {name: one.text for name, one in pinned.by_id(list(numbered(300))).items()}
    rows = {name: one.row for name, one in ItemTable(layout.items).by_id(list(numbered(300))).items()}
    for n in range(MOST_SMALL_FRAGMENTS + 40):
        engine.upsert(items({f"i{n}": f"live {n}"}))
    for path in (layout.items, layout.vectors(SPACE)):
        assert len(lance.dataset(str(path)).get_fragments()) <= MOST_SMALL_FRAGMENTS + 2
    now = ItemTable(layout.items).by_id(list(numbered(300)))
    assert {name: one.row for name, one in now.items()} == rows
    assert now["i0"].text == "live 0"
    old = ItemTable(layout.items, made.items_version)
    assert {name: one.text for name, one in old.by_id(list(numbered(300))).items()} == expected
    assert engine.search("live 3", k=1).hits[0].id == "i3"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import mmrec
import mmrec.embedding.commit
from test_store_accidents import Cheap, items
setattr(mmrec.embedding.commit, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
mmrec.open(sys.argv[1], encoders=[Cheap()]).upsert(items({"late": "too late"}))
"""


@pytest.mark.parametrize("step", ["commit_items", "amend_quarantine"])
def test_a_writer_killed_between_commits_leaves_no_lock_and_no_half(layout, step):
    index(layout, numbered(30))
    command = [sys.executable, "-c", KILLED, str(layout.root), step, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with file_lock(layout.lock, wait_seconds=0.0), job_lock(layout.job_lock):
        pass
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    assert engine.upsert(items({"late": "too late"})).added == (step == "commit_items")
    assert engine.search("too late", k=1).hits[0].id == "late"
    assert list(layout.staging.iterdir()) == []


def test_lock_files_of_the_dead_are_no_locks(layout):
    index(layout, numbered(10))
    for path in (layout.lock, layout.job_lock):
        path.write_text("99999999")
    assert index(layout, numbered(12))[0].added == 2


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (FORMAT_VERSION + 1, "newer mmrec"),
        (0.5, "damaged"),
        ("one", "damaged"),
        (FORMAT_VERSION - 1, "older mmrec|damaged"),
    ],
)
def test_a_store_of_another_version_is_left_as_it_is(layout, version, said):
    index(layout, numbered(10))
    (layout.root / "store.json").write_text(json.dumps({"format": version}))
    before = files(layout.root)
    for use in (lambda: mmrec.open(layout.root), lambda: index(layout, numbered(12))):
        with pytest.raises(StoreError, match=said):
            use()
    assert files(layout.root) == before


def test_a_path_that_is_a_file_is_told(tmp_path):
    path = tmp_path / "store"
    path.write_text("a letter")
    with pytest.raises(StoreError, match="is a file, and a store is a directory"):
        mmrec.open(path)
    with pytest.raises(MmrecError, match="not a mmrec store"):
        index(Layout(path), numbered(3))
    assert path.read_text() == "a letter"


def test_a_first_run_that_was_cut_off_is_told_and_finished_by_the_next(layout):
    def source():
        yield from items(numbered(200))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmrec.index_items(source(), SCHEMA, layout, [Cheap()], mmrec.Indexing())
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    for use in (
        lambda: engine.search("text 3"),
        engine.status,
        lambda: export_vectors(layout, layout.root.parent / "o", Export()),
    ):
        with pytest.raises(StoreError, match=f"no generation yet; finish it with `mmrec index SOURCE {layout.root}`"):
            use()
    tally, made = index(layout, numbered(200))
    assert (tally.added, made.items) == (200, 200)
    assert engine.search("text 3", k=1).hits[0].id == "i3"
