"""A store on a read-only file system answers every question, and says what it cannot do."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_store import index

import mmrec
from mmrec.errors import StoreError, UnreadableError
from mmrec.events.event import Event
from mmrec.events.log import open_log
from mmrec.storage.layout import Layout
from mmrec.verification.verify import verify_store

MOUNTED = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'

ASK = """
import json, os, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from small_store import Cheap
import mmrec
from mmrec.errors import MmrecError
from mmrec.exchange.export import Export, export_vectors
from mmrec.storage.layout import Layout
from mmrec.verification.verify import verify_store
from pipelines.outcome import run_app
from pipelines.cli import app

def told(job):
    try:
        return job()
    except MmrecError as error:
        return f"{type(error).__name__}: {error}"

store, out = Path(sys.argv[2]), Path(sys.argv[3])
try:
    (store / "probe").touch()
    sys.exit("the store can be written")
except OSError:
    pass
engine = mmrec.open(store, encoders=[Cheap()])
print(json.dumps({
    "search": told(lambda: [hit.id for hit in engine.search("i7", k=3).hits]),
    "similar": told(lambda: len(engine.similar("i7", k=3).hits)),
    "recommend": told(lambda: engine.recommend("ann", k=3).events),
    "list": told(lambda: sum(1 for _ in engine.items())),
    "show": told(lambda: engine.show("i7").id),
    "status": told(lambda: engine.status()["items"]),
    "verify": told(lambda: [str(one) for one in verify_store(Layout(store)).findings]),
    "export": told(lambda: export_vectors(Layout(store), out / "vectors.parquet", Export()) and 1),
    "record": told(lambda: engine.delete(["i7"])),
}), file=sys.stderr)
codes = [run_app(app, command) for command in (
    ["events", "stats", str(store), "--json"],
    ["status", str(store), "--json"],
    ["list", str(store), "--json"],
    ["verify", str(store), "--json"],
    ["recommend", str(store), "--user", "ann", "--json"],
    ["quarantine", str(store), "--json"],
)]
sys.exit(0 if not any(codes) else f"codes {codes}")
"""


def mountable(tmp_path: Path) -> bool:
    probe = ["unshare", "-m", "sh", "-c", MOUNTED, "sh", str(tmp_path), "true"]
    return bool(shutil.which("unshare")) and not subprocess.run(probe, capture_output=True, check=False).returncode


def files(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True], ids=["closed", "with a write-ahead log"])
def test_a_read_only_file_system_stops_no_question(tmp_path, ahead):
    if not mountable(tmp_path):
        pytest.skip("no mount namespace may be made here: run as root in a container that allows it")
    made, out = Layout(tmp_path / "made"), tmp_path / "out"
    out.mkdir()
    index(made)
    log = open_log(made.events)
    log.append([Event("ann", f"i{n}", "like", datetime.now(UTC)) for n in range(3)])
    if not ahead:
        log.close()
    root = tmp_path / "store"
    shutil.copytree(made.root, root, ignore=shutil.ignore_patterns("*-shm"))
    log.close()
    assert (root / "events.db-wal").exists() is ahead
    before = files(root)
    ask = [sys.executable, "-c", ASK, str(Path(__file__).parents[1]), str(root), str(out)]
    command = ["unshare", "-m", "sh", "-c", MOUNTED, "sh", str(root), *ask]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    said = json.loads(done.stderr.splitlines()[0])
    record = said.pop("record")
    assert record.startswith("StoreError")
    assert "Read-only file system" in record
    assert said == {
        "search": ["i7", *said["search"][1:]],
        "similar": 3,
        "recommend": 3,
        "list": 60,
        "show": "i7",
        "status": 60,
        "verify": [],
        "export": 1,
    }
    assert files(root) == before


AS_NOBODY = """
import json, os, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from small_store import Cheap
import mmrec
from mmrec.storage.layout import Layout
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store

def use(layout):
    told = []
    for job in (
        lambda: verify_store(layout),
        lambda: mmrec.open(layout.root, encoders=[Cheap()]).search("i7"),
        lambda: repair_store(layout, lambda _: Cheap.spaces),
    ):
        try:
            job()
            told.append("done")
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")
    return told

(Path(sys.argv[3]) / "generations" / "2" / "rows.npy").unlink()
use(Layout(Path(sys.argv[3])))  # all is imported by now, from where nobody may not look
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(json.dumps(use(Layout(Path(sys.argv[2])))))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["items.lance/data", "generations/2/rows.npy", "generations/2/manifest.json"])
def test_what_may_not_be_read_is_not_damaged(layout, tmp_path, name):
    shutil.copytree(layout.root, tmp_path / "copy")
    with tempfile.TemporaryDirectory(prefix="mmrec-test-") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "store"
        layout.root.rename(root)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (root / name).chmod(0)
        before = sorted(root.rglob("*"))
        command = [sys.executable, "-c", AS_NOBODY, str(Path(__file__).parents[1]), str(root), str(tmp_path / "copy")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for told in json.loads(done.stdout):
            assert told.startswith(UnreadableError.__name__), told
            assert "may not be read by this user: Permission denied" in told
        assert sorted(root.rglob("*")) == before


def test_a_store_that_is_being_indexed_is_not_damaged(tmp_path):
    from mmrec.storage.scratch import scratch_folder

    layout = Layout(tmp_path / "store")
    layout.create()
    with scratch_folder(layout):
        report = verify_store(layout)
        assert report.sound
        assert "is being indexed: nothing is published yet" in report.unpublished
    assert "has no items yet" in verify_store(layout).unpublished
    with pytest.raises(StoreError, match="no generation yet"):
        mmrec.open(layout.root).status()
