"""What no generation needs is removed, and nothing else."""

import importlib
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest

import mmrec
from indexers.atomic import temporary_name
from mmrec.errors import StoreError, UsageError
from mmrec.storage.collect import Policy, collect
from mmrec.storage.generations import current_number, generation_numbers
from mmrec.storage.layout import Layout
from mmrec.storage.scratch import scratch_folder
from mmrec.verification.verify import verify_store

sys.path.insert(0, str(Path(__file__).parents[1] / "embedding"))
crash_job = importlib.import_module("crash_job")
sys.path.pop(0)

NOW = timedelta(0)


@pytest.fixture
def layout(tmp_path):
    """Five generations, with edits and removals between them."""
    made = Layout(tmp_path / "store")
    for edition in (0, 1, 0, 1, 0):
        crash_job.index(made.root, edition, crash_job.Cheap())
    assert generation_numbers(made) == [1, 2, 3, 4, 5]
    return made


def files(layout):
    return {path: path.stat().st_size for path in layout.root.rglob("*") if path.is_file()}


def answers(layout):
    engine = mmrec.open(layout.root, encoders=[crash_job.Cheap()])
    return {f"i{n}": engine.search(f"text {n}", k=3).hits for n in range(1, 60, 9)}


def versions(path):
    return [one["version"] for one in lance.dataset(str(path)).versions()]


def test_old_generations_and_versions_go_and_answers_stay(layout):
    before, size = answers(layout), sum(files(layout).values())
    done = collect(layout, Policy(keep=2, grace=NOW))
    assert done.generations == [1, 2, 3]
    assert generation_numbers(layout) == [4, 5]
    assert done.versions > 0
    assert done.freed_bytes == size - sum(files(layout).values()) > 0
    assert answers(layout) == before
    assert verify_store(layout, full=True).findings == []
    pinned = {made.items_version for made in mmrec.open(layout.root).generations()}
    assert set(versions(layout.items)) >= pinned
    assert mmrec.open(layout.root).rollback() == 4
    assert verify_store(layout, full=True).findings == []


def test_a_second_collection_finds_nothing(layout):
    collect(layout, Policy(keep=1, grace=NOW))
    kept = files(layout)
    done = collect(layout, Policy(keep=1, grace=NOW))
    assert (done.generations, done.versions, done.freed_bytes) == ([], 0, 0)
    assert files(layout) == kept


def test_a_dry_run_changes_nothing_and_tells_what_would_be_freed(layout):
    kept = files(layout)
    told = collect(layout, Policy(keep=1, grace=NOW, dry_run=True))
    assert files(layout) == kept
    assert collect(layout, Policy(keep=1, grace=NOW)) == told


def test_a_reader_that_has_a_removed_generation_open_goes_on(layout):
    mmrec.open(layout.root).rollback(3)
    engine = mmrec.open(layout.root, encoders=[crash_job.Cheap()])
    snapshot = engine._fresh_snapshot()
    assert snapshot.generation.manifest.number == 3
    mmrec.open(layout.root).rollback(5)
    collect(layout, Policy(keep=1, grace=NOW))
    assert generation_numbers(layout) == [5]
    rows = snapshot.generation.rows
    assert np.isfinite(snapshot.vectors(rows.tolist())).all()
    assert snapshot.index.search(snapshot.vectors(rows[:3].tolist()), 1).rows.shape == (3, 1)
    assert engine.search("text 13", k=1).generation == 5


def test_what_a_running_job_reads_stays(layout):
    with scratch_folder(layout) as folder:
        (folder / "rows").write_text("staged")
        before = versions(layout.items)
        collect(layout, Policy(keep=1, grace=NOW))
        assert (folder / "rows").exists()
        assert versions(layout.items) == before
        with pytest.raises(StoreError, match="a job that may need unused vectors is running"):
            collect(layout, Policy(unused_vectors=True))


def test_recent_versions_and_generations_stay_for_their_readers(layout):
    done = collect(layout, Policy(keep=1))
    assert (done.generations, done.versions) == ([], 0)
    assert generation_numbers(layout) == [1, 2, 3, 4, 5]


def test_what_the_dead_left_goes(layout):
    dead, aside = layout.staging / f"1700000000-{'0' * 32}", layout.damaged / f"1.{'a' * 32}"
    for folder, size in ((dead, 1000), (aside, 500)):
        folder.mkdir(parents=True)
        (folder / "vectors.npy").write_bytes(bytes(size))
    unfinished = [layout.root / ".CURRENT.new", layout.root / temporary_name("CURRENT")]
    unfinished += [path.parent / temporary_name(path.name) for path in (layout.items, layout.vectors(crash_job.SPACE))]
    for path in unfinished:
        path.touch()
    orphan = layout.items / "data" / f"{'0' * 24}.lance"
    orphan.write_bytes(bytes(300))
    done = collect(layout, Policy(keep=5, grace=timedelta(days=1)))
    assert (done.folders, done.freed_bytes) == (2, 1800)
    assert not any(path.exists() for path in (orphan, aside.parent, *unfinished))
    assert list(layout.staging.iterdir()) == []


def test_what_others_keep_in_a_store_stays(layout):
    """Only names of mmrec's own form are swept."""
    others = ["staging/notes", "staging/1-2", "damaged/notes", "generations/notes", ".vimrc.new", "notes"]
    for name in others:
        (layout.root / name).mkdir(parents=True)
        (layout.root / name / "letter.txt").touch()
    done = collect(layout, Policy(keep=1, grace=NOW))
    assert done.generations == [1, 2, 3, 4]
    assert all((layout.root / name / "letter.txt").exists() for name in others)


def test_vectors_of_contents_that_are_gone_stay_unless_it_is_asked_for(layout):
    path = layout.vectors(crash_job.SPACE)
    stored = lance.dataset(str(path)).count_rows()
    collect(layout, Policy(keep=1, grace=NOW))
    assert lance.dataset(str(path)).count_rows() == stored > 60
    done = collect(layout, Policy(keep=1, unused_vectors=True, grace=NOW))
    assert done.vectors == stored - 60
    assert lance.dataset(str(path)).count_rows() == 60
    assert verify_store(layout, full=True).findings == []
    again = crash_job.Cheap()
    crash_job.index(layout.root, 1, again)
    assert len(again.encoded) == stored - 60  # what came back
    assert verify_store(layout, full=True).findings == []


def test_nothing_to_keep_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        Policy(keep=0)


JOB = """
import sys, importlib
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
crash_job = importlib.import_module("crash_job")
module, function, number, moment = sys.argv[3].split(":")
from mmrec.storage.collect import Policy, collect
from mmrec.storage.layout import Layout
crash_job.Step(module, function, int(number), moment).arm()
collect(Layout(Path(sys.argv[2])), Policy(keep=1, unused_vectors=True, grace=timedelta(0)))
"""
STEPS = [
    "mmrec.storage.collect:move:1:after",
    "mmrec.storage.collect:remove:1:before",
    "mmrec.storage.collect:drop_rows:1:after",
    "mmrec.storage.collect:lance.LanceDataset.cleanup_old_versions:1:before",
    "mmrec.storage.collect:lance.LanceDataset.cleanup_old_versions:1:after",
    "mmrec.storage.collect:lance.LanceDataset.cleanup_old_versions:3:after",
]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_nothing_is_lost(layout, step):
    before = answers(layout)
    job = [sys.executable, "-c", JOB, Path(crash_job.__file__).parent, layout.root, step]
    assert subprocess.run(job, check=False).returncode == -signal.SIGKILL
    assert verify_store(layout, full=True).findings == []
    assert answers(layout) == before
    collect(layout, Policy(keep=1, unused_vectors=True, grace=NOW))
    assert verify_store(layout, full=True).findings == []
    assert [path.name for path in layout.generations.iterdir()] == [str(current_number(layout))]
    assert answers(layout) == before
