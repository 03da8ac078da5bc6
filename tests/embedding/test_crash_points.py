"""kill -9 at every step of a run at which something has just been, or is about to be, written."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pytest

import mmrec
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout

JOB = Path(__file__).with_name("crash_job.py")
_SPEC = importlib.util.spec_from_file_location("crash_job", JOB)
crash_job = importlib.util.module_from_spec(_SPEC)
sys.modules["crash_job"] = crash_job
_SPEC.loader.exec_module(crash_job)

BIRTH = [
    "indexers.atomic:os.replace:1:before",
    "mmrec.storage.layout:write_atomically:1:after",
    "mmrec.storage.tables:lance.write_dataset:1:after",  # a table of vectors is there, under another name
    "mmrec.storage.tables:create_table:1:after",  # and without a row
    "mmrec.storage.staging:create_table:1:after",  # so is that of the items
]
STEPS = [
    "mmrec.storage.scratch:Path.mkdir:2:before",  # the lock of a folder is there, the folder is not
    "mmrec.embedding.encoding:VectorAppender.append:1:before",
    "mmrec.embedding.encoding:VectorAppender.append:1:after",
    "mmrec.embedding.commit:commit_items:1:before",
    "mmrec.embedding.commit:commit_items:1:after",
    "mmrec.embedding.commit:remove_items:1:after",
    "mmrec.embedding.commit:replace_quarantine:1:after",
    "mmrec.generation.build:reserve:1:after",
    "mmrec.generation.build:publish:1:before",
    "mmrec.storage.generations:write_atomically:1:after",  # the manifest
    "mmrec.storage.generations:sync_directory:1:before",  # the generation is there, and not current
    "mmrec.storage.generations:write_atomically:2:before",
    "mmrec.storage.generations:write_atomically:2:after",
]
FEW = [STEPS[0], STEPS[2], STEPS[4], STEPS[10]]


def vectors_of(store):
    path = Layout(store).vectors(crash_job.SPACE)
    return lance.dataset(str(path)).to_table(columns=["hash"])["hash"].to_pylist() if path.exists() else []


def survive(tmp_path, step, *, born):
    store, fresh = tmp_path / "store", tmp_path / "fresh"
    if born:
        crash_job.index(store, 0, crash_job.Cheap())
    assert subprocess.run([sys.executable, JOB, store, "1", step], check=False).returncode == -9
    committed = len(vectors_of(store))
    last = crash_job.Cheap()
    crash_job.index(store, 1, last)
    hashes = vectors_of(store)
    assert len(hashes) == len(set(hashes)) == committed + len(last.encoded)
    crash_job.index(fresh, 1, crash_job.Cheap())
    grown, new = (mmrec.open(path, encoders=[crash_job.Cheap()]) for path in (store, fresh))
    names = sorted(name for batch in ItemTable(Layout(store).items).ids() for name in batch)
    assert names == sorted(name for batch in ItemTable(Layout(fresh).items).ids() for name in batch)
    assert {name: grown.show(name).text for name in names} == {name: new.show(name).text for name in names}
    assert [entry.id for entry in grown.quarantined()] == [entry.id for entry in new.quarantined()] == ["empty"]
    # Contents are compared, not items: the two fusions were fitted on two catalogs.
    stored = [ItemTable(Layout(path).items).by_id(names) for path in (store, fresh)]
    assert all(stored[0][name].fields[0].hash == stored[1][name].fields[0].hash for name in names)
    np.testing.assert_allclose(np.diag(grown.vectors(names) @ grown.vectors(names).T), 1, atol=2e-3)
    for name in names[::10]:
        assert grown.search(grown.show(name).text, k=1).hits[0].id == name
    assert list((store / "staging").iterdir()) == []
    known = {"store.json", "commit.lock", "job.lock", "CURRENT", "items.lance", "quarantine.lance"}
    assert {path.name for path in store.iterdir()} == known | {"vectors", "generations", "staging"}


@pytest.mark.parametrize("step", FEW)
def test_killed_at_some_steps(tmp_path, step):
    survive(tmp_path, step, born=True)


@pytest.mark.slow
@pytest.mark.parametrize("step", [step for step in STEPS if step not in FEW])
def test_killed_at_any_step(tmp_path, step):
    survive(tmp_path, step, born=True)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of a file are POSIX")
@pytest.mark.parametrize("limit", [600, 4000])
def test_a_disk_that_is_full_is_named_and_costs_nothing(tmp_path, limit):
    crash_job.index(tmp_path / "store", 0, crash_job.Cheap())
    command = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); import crash_job; "
    command += f"from pathlib import Path; crash_job.index(Path({str(tmp_path / 'store')!r}), 1, crash_job.Cheap())"
    # Without -B the limit would cut the interpreter's compiled files, too.
    ran = subprocess.run(
        [sys.executable, "-B", "-c", command], check=False, capture_output=True, text=True, cwd=JOB.parent
    )
    assert ran.returncode == 1
    assert "mmrec.errors.StoreError: " in ran.stderr
    assert "cannot be written" in ran.stderr
    engine = mmrec.open(tmp_path / "store", encoders=[crash_job.Cheap()])
    assert engine.search("text 13", k=1).hits[0].id == "i13"
    crash_job.index(tmp_path / "store", 1, crash_job.Cheap())
    assert engine.search("text 66 edited", k=1).hits[0].id == "i66"


@pytest.mark.parametrize("step", BIRTH)
def test_killed_at_birth(tmp_path, step):
    survive(tmp_path, step, born=False)


def test_two_jobs_at_once_double_and_lose_nothing(tmp_path):
    store = tmp_path / "store"
    crash_job.index(store, 0, crash_job.Cheap())
    never = "mmrec.storage.scratch:Path.mkdir:99:before"
    command = [sys.executable, JOB, store, "1", never]
    jobs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(said, job.returncode) for job in jobs for said in [job.communicate()[1]]]
    assert 0 in [code for _, code in ends]
    assert all("another job is indexing a catalog" in said for said, code in ends if code)
    names = [name for batch in ItemTable(Layout(store).items).ids() for name in batch]
    assert sorted(names) == sorted(f"i{n}" for n in range(10, 70))
    engine = mmrec.open(store, encoders=[crash_job.Cheap()])
    assert all(engine.search(engine.show(name).text, k=1).hits[0].id == name for name in names[::10])
    assert list((store / "staging").iterdir()) == []
    again = crash_job.Cheap()
    crash_job.index(store, 1, again)
    assert again.encoded == []
