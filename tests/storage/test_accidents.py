"""What dead processes leave behind hinders no one and does not pile up."""

import multiprocessing
import os

import pytest
from filelock import FileLock

from indexers.atomic import temporary_name
from mmrec.errors import UsageError
from mmrec.files import reserve
from mmrec.storage.generations import Manifest, current_number, generation_numbers, publish
from mmrec.storage.layout import Layout
from mmrec.storage.scratch import scratch_folder

MANIFEST = Manifest(
    created="now",
    items_version=0,
    vector_versions={},
    encoders="packaged",
    weights={},
    dim=1,
    items=0,
    contents={},
    kept_energy={},
    index_factory="Flat",
    checks={},
    sha256={},
)

YOUNG = f"1700000000-{'2' * 32}"


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    made.create()
    return made


def test_a_store_whose_maker_died_can_be_made(tmp_path):
    for left in (".store.json.new", temporary_name("store.json")):
        (tmp_path / left).write_text("{")
    (tmp_path / "commit.lock").touch()
    Layout(tmp_path).create()
    Layout(tmp_path).check()
    assert {path.name for path in tmp_path.iterdir()} == {"store.json", "commit.lock"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(UsageError, match="not a mmrec store"):
        Layout(tmp_path / "other").create()


def test_scratch_of_the_dead_is_swept_and_that_of_the_living_is_not(layout):
    with scratch_folder(layout) as living:
        (living / "rows").touch()
        dead = layout.staging / f"1700000000-{'0' * 32}"
        dead.mkdir()
        (dead / "rows").touch()
        dead.with_name(f"{dead.name}.lock").touch()
        (layout.staging / f"{'1' * 32}.lock").touch()
        with scratch_folder(layout) as other:
            assert (living / "rows").exists()
            names = {path.name.removesuffix(".lock") for path in layout.staging.iterdir()}
            assert names == {living.name, other.name}
    assert list(layout.staging.iterdir()) == []


def test_a_lock_without_a_folder_yet_is_left_to_its_owner(layout):
    layout.staging.mkdir()
    with FileLock(layout.staging / f"{YOUNG}.lock"):
        with scratch_folder(layout):
            pass
        assert (layout.staging / f"{YOUNG}.lock").exists()


def _make_scratch(layout, times):
    for _ in range(times):
        with scratch_folder(layout) as folder:
            (folder / "rows").write_text(str(os.getpid()))
            assert (folder / "rows").read_text() == str(os.getpid())


def test_many_processes_sweep_without_touching_each_other(layout):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_make_scratch, args=(layout, 40)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert list(layout.staging.iterdir()) == []


def test_a_number_once_taken_is_not_given_again(layout):
    for number in (1, 2):
        with scratch_folder(layout) as folder:
            (folder / "rows.npy").touch()
            assert publish(layout, folder, MANIFEST).number == number
    (layout.generations / "2" / "manifest.json").unlink()
    assert generation_numbers(layout) == [1]
    with scratch_folder(layout) as folder:
        (folder / "rows.npy").touch()
        assert publish(layout, folder, MANIFEST).number == 3
    assert current_number(layout) == 3


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve a file's place")
def test_a_reserved_file_has_no_holes(tmp_path):
    path = tmp_path / "vectors"
    with path.open("wb") as file:
        file.truncate(1_000_000)
    assert path.stat().st_blocks == 0
    reserve(path)
    assert path.stat().st_size == 1_000_000
    assert path.stat().st_blocks * 512 >= 1_000_000
