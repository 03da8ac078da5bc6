"""Each file of a real store damaged in each way: no traceback, and no command answers otherwise without a word.

What is not seen is said in `unseen`: SQLite keeps no checksums of its pages, so that a bit within the text of an event
is a fact to it.
"""

import hashlib
import re
import shutil
import wave
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from small_store import SPACE, Cheap

import mmrec
from mmrec.errors import MmrecError
from mmrec.event_log import open_event_log, update_checkpoint
from mmrec.events.event import Event
from mmrec.jobs.events import run_stats
from mmrec.jobs.train import train_and_publish
from mmrec.storage.layout import Layout
from mmrec.training.config import TrainingConfig
from mmrec.types import Field, Item, Modality, Space
from mmrec.users.tower_config import TowerConfig
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store

TOWER = TrainingConfig(tower=TowerConfig(dim=16, width=16, inner=32, layers=1, window=12), epochs=2, device="cpu")
FOREIGN = re.compile(r"\.rs\b|/home/runner|/rustc/|site-packages|Traceback|panicked")


class Media(Cheap):
    """Vectors by hash of the decoded content."""

    spaces = {  # noqa: RUF012
        Modality.TEXT: (SPACE,),
        Modality.IMAGE: (Space("pictures", 16, "d" * 40),),
        Modality.AUDIO: (Space("sounds", 16, "e" * 40),),
    }

    def prepare(self, modality, content):
        if modality == Modality.TEXT:
            return super().prepare(modality, content)
        data = content.tobytes() if modality == Modality.IMAGE else content.samples.tobytes()
        return super().prepare(modality, hashlib.sha256(data).hexdigest())

    def encode(self, modality, samples):
        return {self.spaces[modality][0].name: super().encode(modality, samples)["cheap"]}


def catalog(folder: Path, count: int) -> list[Item]:
    """Texts, of which every fourth has a picture and every fifth a sound; one text cannot be used."""
    items = []
    for n in range(count):
        fields = [Field(Modality.TEXT, "title", text="cannot" if n == 3 else f"title {n}")]
        if n % 4 == 0:
            Image.new("RGB", (8, 8), (n, 2 * n, 3 * n)).save(folder / f"{n}.png")
            fields.append(Field(Modality.IMAGE, "picture", uri=str(folder / f"{n}.png")))
        if n % 5 == 0:
            with wave.open(str(folder / f"{n}.wav"), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes((np.sin(np.arange(16_000) * (0.01 + 0.01 * n)) * 9000).astype("<i2").tobytes())
            fields.append(Field(Modality.AUDIO, "sound", uri=str(folder / f"{n}.wav")))
        items.append(Item(f"i{n}", tuple(fields), {"number": n}, n))
    return items


def take_in(layout: Layout, folder: Path, count: int) -> None:
    schema = pa.schema([("number", pa.int64())])
    mmrec.index_items(catalog(folder, count), schema, layout, [Media()], mmrec.Indexing())


def spaces(_: str):
    return Media.spaces


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> tuple[Path, Path, dict[str, object]]:
    """A store of two generations with a tower, copied while its log is open, so that it has a write-ahead log."""
    folder = tmp_path_factory.mktemp("sweep")
    layout = Layout(folder / "made")
    take_in(layout, folder, 30)
    engine = mmrec.open(layout.root, encoders=[Media()])
    engine.delete(["i29"])
    take_in(layout, folder, 29)
    start = datetime.now(UTC) - timedelta(days=3)
    log = open_event_log(layout)
    walks = [Event(f"p{n % 9}", f"i{(n % 9 + n // 9) % 29}", "like", start + timedelta(minutes=n)) for n in range(180)]
    log.append(walks[:150])
    train_and_publish(layout, log, TOWER, folder / "training")
    for event in walks[150:]:
        log.append([event])
    update_checkpoint(layout, log)
    shutil.copytree(layout.root, folder / "store", ignore=shutil.ignore_patterns("*-shm"))
    log.close()
    engine.close()
    assert (folder / "store" / "events.db-wal").stat().st_size > 100_000
    sound = folder / "sound"
    shutil.copytree(folder / "store", sound)
    return folder / "store", folder, answers(sound)


def rounded(value):
    """An answer without the digits that the moment of asking decides."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def asked(root: Path):
    engine = mmrec.open(root, encoders=[Media()])

    def plain(found):
        return rounded({name: value for name, value in asdict(found).items() if name != "seconds"})

    yield "search", lambda: plain(engine.search("title 7", k=5))
    yield "filter", lambda: plain(engine.search("title 7", where="number > 9", k=5))
    yield "similar", lambda: plain(engine.similar("i8", k=5))
    yield "recommend", lambda: plain(engine.recommend("p3", k=6))
    yield "popular", lambda: plain(engine.recommend("nobody", k=6))
    yield "history", lambda: plain(engine.recommend(history=["i1", "i2"], k=6, explain=True))
    yield "status", lambda: {name: value for name, value in engine.status().items() if name != "store"}
    yield "list", lambda: sorted((asdict(hit) for hit in engine.items()), key=lambda hit: hit["id"])
    yield "show", lambda: asdict(engine.show("i12"))
    yield "quarantine", lambda: list(map(asdict, engine.quarantined()))
    yield "stats", lambda: run_stats(root, None)
    engine.close()


def answers(root: Path) -> dict[str, object]:
    """What each command answers; the error where it refuses. Anything but an error of mmrec's own is a fault."""
    found: dict[str, object] = {}
    try:
        for name, ask in asked(root):
            try:
                found[name] = ask()
            except MmrecError as error:
                found[name] = error
    except MmrecError as error:  # the store does not open
        return {"open": error}
    return found


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(_: bytes) -> bytes:
    return b""


def flipped(share: float):
    def flip(data: bytes) -> bytes:
        place = min(int(len(data) * share), len(data) - 1)
        return data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :]

    flip.__name__ = f"flip at {share}"
    return flip


WAYS = (empty, cut, None, flipped(0.0), flipped(0.07), flipped(0.25), flipped(0.55), flipped(0.8), flipped(0.999))


def damage(path: Path, way) -> None:
    if way is None:
        path.unlink()
    else:
        path.write_bytes(way(path.read_bytes()))


def unseen(name: str, way) -> bool:
    """Whether a damage may change an answer in silence: a bit within a page of SQLite's, or its last commit's."""
    return name in {"events.db", "events.db-wal"} and way not in {empty, cut, None}


def sweep(store, tmp_path: Path, names: list[str], ways, *, mending: bool) -> Counter[str]:
    whole, folder, sound = store
    count: Counter[str] = Counter()
    for name in names:
        for way in ways:
            root = tmp_path / "damaged"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(whole, root)
            if way is not None and not (root / name).stat().st_size:
                continue
            damage(root / name, way)
            about = f"{name}: {way.__name__ if way else 'deleted'}"
            count["damages"] += 1
            layout = Layout(root)
            report = verify_store(layout)
            count["found by verify"] += not report.sound
            said = answers(root)
            refused = [str(one) for one in said.values() if isinstance(one, MmrecError)]
            count["told by a command"] += bool(refused)
            words = [*refused, *(one.what for one in report.findings), *report.notes]
            assert not FOREIGN.search(" ".join(words)), (about, words)
            assert not refused or not report.sound, (about, refused)
            for question, answer in said.items():
                if not isinstance(answer, MmrecError) and answer != sound[question]:
                    assert unseen(name, way), (about, question, answer, sound[question])
                    count["not seen within a page of events"] += 1
                    break
            if mending:
                count["identical after mend"] += mended(layout, folder, sound, about)
    return count


def mended(layout: Layout, folder: Path, sound, about: str) -> bool:
    """Whether all is as it was after mending, indexing only where that is what is said."""
    done = repair_store(layout, spaces)
    report = verify_store(layout)
    if done.incomplete or any(command.startswith("mmrec index") for command in report.commands):
        take_in(layout, folder, 29)
        report = verify_store(layout)
    assert report.sound, (about, report.findings)
    after = answers(layout.root)
    assert not [one for one in after.values() if isinstance(one, MmrecError)], (about, after)
    for one in (after, sound := dict(sound)):
        one["status"] = {**one["status"], "generation": 0, "created": "", "changed_since": 0}
        one["quarantine"] = [{**entry, "at": None} for entry in one["quarantine"]]
        for name, answer in one.items():
            if isinstance(answer, dict) and "generation" in answer:
                one[name] = {**answer, "generation": 0}
    return after == sound


def every_file(root: Path) -> list[str]:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return [str(path.relative_to(root)) for path in files]


def told(count: Counter[str], capfd) -> None:
    printed = capfd.readouterr()
    assert not FOREIGN.search(printed.err + printed.out), printed
    with capfd.disabled():
        print(f"\n{dict(count)}")  # noqa: T201 - what a sweep is read for


@pytest.mark.slow
def test_damage_that_answers_depend_on_is_told(store, tmp_path, capfd):
    """The files that every question reads, each in one of the ways that once went unseen or ended in a traceback."""
    whole = store[0]
    newest = max((whole / "generations").iterdir(), key=lambda folder: int(folder.name)).name
    names = [f"generations/{newest}/{name}" for name in ("rows.npy", "modalities.npy", "taste.npy", "tower.json")]
    names += [name for name in every_file(whole) if re.match(r"(items|quarantine)\.lance/(data|_deletions)/", name)]
    count = sweep(store, tmp_path, names, (cut, None, flipped(0.55)), mending=False)
    logs = ["events.db", "events.db-wal", "CURRENT"]
    count += sweep(store, tmp_path, logs, (empty, cut, None, flipped(0.0)), mending=False)
    told(count, capfd)
    assert count["damages"] >= 30
    assert count["told by a command"] >= count["damages"] * 0.6


@pytest.mark.slow
def test_every_damage_of_every_file_is_told(store, tmp_path, capfd):
    count = sweep(store, tmp_path, every_file(store[0]), WAYS, mending=True)
    told(count, capfd)
    assert count["damages"] > 300
    assert count["identical after mend"] > count["damages"] * 0.5
