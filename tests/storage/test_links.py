"""Links and special files in a store: every command refuses them, and nothing outside the store ever changes."""

import hashlib
import itertools
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import NAMES, Cheap, index, spaces

import mmrec
from indexers.atomic import temporary_name
from mmrec.errors import LinkError, StoreError, UsageError
from mmrec.events.event import Event
from mmrec.events.log import open_log
from mmrec.exchange.importing import UNFINISHED
from mmrec.jobs.train import train_and_publish
from mmrec.storage import containment
from mmrec.storage.collect import Policy, collect
from mmrec.storage.generations import current_number
from mmrec.storage.layout import EVENT_FILES, Layout
from mmrec.storage.scratch import scratch_folder, sweep
from mmrec.training.config import TrainingConfig
from mmrec.types import Space
from mmrec.users.tower_config import TowerConfig
from mmrec.verification.repair import repair_store
from mmrec.verification.salvage import set_aside
from mmrec.verification.verify import verify_store
from pipelines.cli import app
from pipelines.outcome import run_app

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = TrainingConfig(
    tower=TowerConfig(dim=16, width=16, inner=32, layers=1, window=12), epochs=2, evaluate_every=1, device="cpu"
)
NOW = timedelta(0)
HEX = "0123456789abcdef" * 2
CAME_LATER = [
    ".CURRENT.new",
    ".store.json.new",
    ".items.lance.new",
    ".items.lance.whole",
    f".CURRENT.{HEX}.new",
    *EVENT_FILES[1:],
    UNFINISHED,
    "spaces.json",
    "damaged",
    f"damaged/1.{HEX}",
    f"staging/1700000000-{HEX}",
    f"staging/1700000000-{HEX}.lock",
    "generations/9",
    "generations/1/letter.txt",
    "items.lance/_indices",
    "items.lance/_deletions",
    "items.lance/data/letter.lance",
    "vectors/.cheap.lance.new",
    "training/checkpoint.safetensors",
]
"""Names at which a store has nothing now, and where mmrec would write, or look, or delete."""


def build(place: Path, *, trained: bool) -> Path:
    """A store with two generations and events; beside it what belongs to someone else."""
    layout = Layout(place / "shop")
    index(layout, NAMES[:40])
    with closing(open_log(layout.events)) as log:
        people = [(f"p{person}", person * 7 + step) for person in range(20) for step in range(8)]
        moments = (START + timedelta(minutes=minute) for minute in itertools.count())
        log.append(
            [Event(user, NAMES[at % 40], "like", moment) for (user, at), moment in zip(people, moments, strict=False)]
        )
        if trained:
            train_and_publish(layout, log, CONFIG, layout.root / "training")
    if not trained:
        index(layout, NAMES[:41])
        for name in ("training.lock", "curves.png", "tensorboard/events.out", "tower.json", "tower.safetensors"):
            (layout.root / "training" / name).parent.mkdir(parents=True, exist_ok=True)
            (layout.root / "training" / name).write_text("stands in for what a training writes")
    for number in range(3):
        lines = "".join(json.dumps({"id": name, "text": name}) + "\n" for name in NAMES[number:50])
        (place / f"{number}.jsonl").write_text(lines)
    (place / "events.jsonl").write_text('{"user": "p1", "item": "i1", "kind": "like", "time": "2026-01-02T00:00:00"}\n')
    (place / "queries.jsonl").write_text('{"query": "i1", "relevant": ["i1"]}\n')
    pq.write_table(pa.table({"id": ["i1"], "vector": pa.array([[1.0, 2.0]])}), place / "vectors.parquet")
    outside = place / "outside"
    (outside / "docs" / "sub").mkdir(parents=True)
    for name in ("key.txt", "docs/letter.txt", "docs/sub/letter.txt", f"docs/1.{HEX}", f"docs/1700000000-{HEX}"):
        (outside / name).write_text(f"mine: {name}")
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("links"), trained=False)


def commands(place: Path) -> dict[str, list[str]]:
    """Every command that takes a store."""
    store, questions = str(place / "shop"), str(place / "queries.jsonl")
    bring = [str(place / "vectors.parquet"), "--space", "own", "--modality", "text"]
    columns = ["--id", "id", "--text", "text"]
    return {
        "verify": ["verify", store],
        "gc": ["gc", store, "--keep", "1", "--grace", "0"],
        "gc unused": ["gc", store, "--unused-vectors", "--grace", "0"],
        "index": ["index", str(place / "1.jsonl"), store, *columns],
        "index --add": ["index", str(place / "2.jsonl"), store, *columns, "--add"],
        "reindex": ["reindex", store],
        "delete": ["delete", store, "i1"],
        "rollback": ["rollback", store],
        "repair": ["repair", store],
        "search": ["search", store, "--text", "i1"],
        "similar": ["similar", store, "i1"],
        "show": ["show", store, "i1"],
        "recommend": ["recommend", store, "--user", "p1"],
        "events import": ["events", "import", store, str(place / "events.jsonl")],
        "events export": ["events", "export", store, str(place / "out.jsonl")],
        "events forget": ["events", "forget", store, "p1"],
        "events stats": ["events", "stats", store],
        "events refused": ["events", "refused", store],
        "export": ["export", store, str(place / "out.parquet")],
        "import-vectors": ["import-vectors", store, *bring],
        "quarantine": ["quarantine", store],
        "quarantine --retry": ["quarantine", store, "--retry"],
        "status": ["status", store],
        "generations": ["generations", store],
        "list": ["list", store],
        "train": ["train", store],
        "train --dry-run": ["train", store, "--dry-run"],
        "compare": ["compare", store, "--generations", "1", "2", "--queries", questions],
        "evaluate": ["evaluate", store],
        "finetune": ["finetune", "align", store, "--out", str(place / "tuned")],
    }


FEW = ("verify", "gc", "rollback", "repair", "index", "events forget", "list")


def digest(folder: Path) -> dict[str, str]:
    """What lies in a folder: the kind, target or content of each name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found


def names_of(store: Path) -> list[str]:
    return sorted(str(path.relative_to(store)) for path in store.rglob("*"))


@contextmanager
def linked(place: Path, name: str, kind: str) -> Iterator[Path]:
    """The store with one name replaced by a link to its own content, to something else, or to nothing."""
    path, moved = place / "shop" / name, place / "outside" / "moved"
    parents = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    is_there = path.exists()
    if is_there:
        path.rename(moved)
    elif kind == "copy":
        moved.write_text("mine too")
    is_folder = moved.is_dir() or (kind == "folder")
    target = {"copy": moved, "other": place / "outside" / ("docs" if is_folder else "key.txt")}
    target |= {"folder": place / "outside" / "docs", "nothing": place / "outside" / "nothing"}
    path.symlink_to(os.path.relpath(target[kind], path.parent))
    try:
        yield path
    finally:
        path.unlink()
        if is_there:
            moved.rename(path)
        else:
            moved.unlink(missing_ok=True)
        for folder in parents:
            folder.rmdir()


def refused(place: Path, path: Path, command: str, said: Callable[[], str]) -> str | None:
    """Run a command. Returns how it did other than to refuse and to name the link."""
    code = run_app(app, commands(place)[command])
    told = said()
    if code != 1 or str(path) not in told or "Only regular files" not in told or "Traceback" in told:
        return f"{command} with {path}: exit {code}, {told[:300]}"
    return None


@pytest.fixture
def said(capfd) -> Callable[[], str]:
    return lambda: "".join(capfd.readouterr())


def check(place: Path, kinds: tuple[str, ...], chosen: Callable[[int, str], tuple[str, ...]], said) -> int:
    """Replace each name, one at a time, and run the chosen commands. Returns how many combinations were run."""
    faults, count = [], 0
    store = place / "shop"
    whole = digest(place)
    for turn, (name, kind) in enumerate(itertools.product([*names_of(store), *CAME_LATER], kinds)):
        with linked(place, name, kind) as path:
            before = digest(place)
            for command in chosen(turn, name):
                faults.append(refused(place, path, command, said))
                count += 1
            after = digest(place)
            changed = {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)}
            faults.append(f"{name} as {kind}: {sorted(changed)} changed" if changed else None)
    assert digest(place) == whole
    assert [fault for fault in faults if fault] == []
    return count


def test_every_command_refuses_each_kind_of_link_at_some_names(place, said, record_property):
    everything = tuple(commands(place))
    count = 0
    for name, kind in (("staging", "other"), ("events.db", "copy"), ("CURRENT", "nothing"), ("commit.lock", "other")):
        with linked(place, name, kind) as path:
            before = digest(place)
            faults = [refused(place, path, command, said) for command in everything]
            count += len(faults)
            assert [fault for fault in faults if fault] == []
            with pytest.raises(LinkError, match=re.escape(name)):
                mmrec.open(place / "shop", encoders=[Cheap()])
            assert digest(place) == before
    record_property("combinations", count)


@pytest.mark.slow
def test_every_file_and_folder_as_a_link_is_refused(place, said, record_property):
    rest = itertools.cycle([command for command in commands(place) if command not in FEW])
    few = itertools.cycle(FEW)
    count = check(place, ("copy", "other"), lambda *_: (next(few), next(rest)), said)
    record_property("combinations", count)
    assert count > 250


@pytest.mark.slow
def test_every_command_refuses_every_file_and_folder_as_a_link(tmp_path, said, record_property):
    place = build(tmp_path, trained=True)
    everything = tuple(commands(place))
    count = check(place, ("copy", "other", "folder", "nothing"), lambda *_: everything, said)
    record_property("combinations", count)
    assert count > 5000


@pytest.mark.parametrize("kind", ["fifo", "socket", "hard link"])
@pytest.mark.parametrize("name", ["store.json", "CURRENT", "events.db", "commit.lock", "events.db-wal", "training/x"])
def test_special_files_are_refused_and_nothing_hangs(place, said, name, kind, monkeypatch):
    path, aside = place / "shop" / name, place / "aside"
    if kind == "hard link" and not name.endswith((".db", ".lock", "-wal")):
        pytest.skip("a file that is replaced, and never written in place, may have another name: backups make such")
    is_there = path.exists()
    if is_there:
        path.rename(aside)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "hard link":
        path.hardlink_to(place / "outside" / "key.txt")
    else:
        monkeypatch.chdir(path.parent)  # the path of a socket may not be long
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    try:
        before = digest(place)
        faults = [refused(place, path, command, said) for command in FEW]
        assert [fault for fault in faults if fault] == []
        assert digest(place) == before
    finally:
        path.unlink()
        if is_there:
            aside.rename(path)


def test_a_store_that_is_reached_by_a_link_serves(place, tmp_path, said):
    index(Layout(tmp_path / "far" / "shop"))
    (tmp_path / "shop").symlink_to("far/shop")
    near = Layout(tmp_path / "shop")
    index(near, NAMES[:50])
    engine = mmrec.open(near.root, encoders=[Cheap()])
    assert engine.search("i7", k=1).hits[0].id == "i7"
    assert collect(near, Policy(keep=1, grace=NOW)).generations == [1]
    assert repair_store(near, spaces).actions == []
    assert verify_store(near, full=True).findings == []
    assert run_app(app, ["verify", str(near.root)]) == 0
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    with pytest.raises(UsageError, match="is not a mmrec store"):
        Layout(dangling).create()
    said()


def test_a_folder_to_become_a_store_may_hold_no_links(tmp_path):
    (tmp_path / "key.txt").write_text("mine")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "commit.lock").symlink_to("../key.txt")
    with pytest.raises(LinkError, match=r"commit\.lock is a symbolic link"):
        Layout(tmp_path / "shop").create()
    assert (tmp_path / "key.txt").read_text() == "mine"


def test_the_message_shows_no_control_characters(tmp_path):
    layout = Layout(tmp_path / "shop")
    layout.create()
    (layout.root / "a\x1b[31m\nb").symlink_to("c")
    with pytest.raises(LinkError) as caught:
        layout.check()
    assert str(caught.value).isprintable()
    assert "rm " in str(caught.value)


@pytest.mark.parametrize("name", ["../../outside/x", "/outside", "a/b", "x\0"])
def test_a_space_cannot_name_a_table_elsewhere(tmp_path, name):
    with pytest.raises(StoreError, match="no name of a table"):
        Layout(tmp_path).vectors(Space(name, 2, "f" * 40))


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Layout:
    """A store whose check sees nothing, as where links come after it; beside it folders of names of mmrec's form."""
    layout = Layout(tmp_path / "shop")
    index(layout, NAMES[:30])
    index(layout, NAMES[:31])
    for name in (f"1700000000-{HEX}", f"1.{HEX}", "1"):
        (tmp_path / "outside" / name).mkdir(parents=True)
        (tmp_path / "outside" / name / "manifest.json").write_text("mine")
    for module in ("layout", "collect", "containment"):
        monkeypatch.setattr(f"mmrec.storage.{module}.check_no_links", lambda _: None, raising=True)
    return layout


def test_what_the_check_missed_is_not_followed_either(shop, tmp_path):
    """The second line of defence: each folder is opened without following links."""
    before = digest(tmp_path / "outside")
    for name in ("staging", "damaged", "generations"):
        real = shop.root / name
        aside = tmp_path / "aside"
        if real.exists():
            real.rename(aside)
        real.symlink_to("../outside")
        jobs = [lambda: collect(shop, Policy(keep=1, grace=NOW)), lambda: sweep(shop)]
        jobs += [lambda: set_aside(shop, shop.quarantine)] if name == "damaged" else []
        for job in jobs:
            with suppress(StoreError, OSError):
                job()
        assert digest(tmp_path / "outside") == before
        real.unlink()
        if aside.exists():
            aside.rename(real)
    assert shop.quarantine.exists()
    for name in (".CURRENT.new", f".CURRENT.{HEX}.new", ".cheap.lance.new"):
        (shop.root / name).symlink_to("../outside")
    collect(shop, Policy(keep=1, grace=NOW))
    assert digest(tmp_path / "outside") == before
    assert current_number(shop) == 2
    assert not any(path.is_symlink() for path in shop.root.iterdir())


def test_links_that_come_and_go_during_deletions_delete_nothing_outside(shop, tmp_path):
    """A thread swaps folders of the store and links, over and over, while jobs clear them."""
    before = digest(tmp_path / "outside")
    done = threading.Event()
    shop.damaged.mkdir()

    def swap() -> None:
        while not done.is_set():
            for folder in (shop.staging, shop.damaged):
                aside = folder.with_name(f"{folder.name}-away")
                with suppress(OSError):
                    folder.rename(aside)
                    folder.symlink_to("../outside")
                with suppress(OSError):
                    folder.unlink()
                with suppress(OSError):
                    aside.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(300):
            with suppress(StoreError, OSError):
                made = shop.damaged / f"1.{HEX}"
                containment.remove(shop.root, made)
                sweep(shop)
                with scratch_folder(shop) as folder:
                    (folder / "rows").touch()
    finally:
        done.set()
        swapping.join()
    assert {name: kind for name, kind in digest(tmp_path / "outside").items() if name in before} == before


@pytest.mark.parametrize("name", ["training.lock", "tensorboard", "checkpoint.safetensors", "curves.png"])
def test_an_output_folder_may_hold_no_links_where_a_training_writes(place, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "mine")
    log = open_log(tmp_path / "other.db")
    with pytest.raises(LinkError, match=re.escape(name)):
        train_and_publish(Layout(place / "shop"), log, CONFIG, tmp_path / "out")
    log.close()
    assert list((tmp_path / "mine").iterdir()) == []


def test_names_of_temporary_files_are_told_from_others():
    from indexers.atomic import is_temporary

    long = "é" * 120
    for name in ("CURRENT", "a.b.lance", long, "\n"):
        assert is_temporary(temporary_name(name))
        assert len(temporary_name(name).encode()) < 255
    for name in (".vimrc.new", "CURRENT", f"CURRENT.{HEX}.new", f".x.{HEX}.old", f".x.{HEX[:-1]}.new"):
        assert not is_temporary(name)
