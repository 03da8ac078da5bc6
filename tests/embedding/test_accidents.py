"""kill -9 at any moment: nothing lost, doubled or mispaired, and nothing that was written is computed again."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import lance
import numpy as np
import pytest

import mmrec
from mmrec.encoders.packaged.minilm import SPACE, MiniLM
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality

COLUMNS = ColumnSpec("id", text=("title",), metadata=("shelf",))
JOB = """
import sys
from mmrec.compute import configure_threads
configure_threads(1)
import mmrec, mmrec.embedding.encoding
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.media_access import content_hash
from mmrec.sources.source import open_source
from mmrec.encoders.packaged.minilm import MiniLM
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from pathlib import Path
mmrec.embedding.encoding.FLUSH_SECONDS = 0.2
catalog, store, log = map(Path, sys.argv[1:])
class Logging(MiniLM):
    def prepare(self, modality, content):
        with log.open("a") as file:
            file.write(content_hash(content.encode()).hex() + "\\n")
        return super().prepare(modality, content)
source = open_source(catalog, ColumnSpec("id", text=("title",), metadata=("shelf",)))
print("ready", flush=True)
mmrec.index_items(source, source.metadata_schema, Layout(store), [Logging()], mmrec.Indexing(refit=True))
print("done", flush=True)
"""
WORDS = ["red", "green", "small", "old", "quick", "wooden", "paper", "metal", "boat", "train", "lamp", "cat"]
WORDS += ["violin", "apple", "drum", "kite", "house", "star"]


def title(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 40)))


def change(rows: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Edit, delete, add and reorder, as a shop's night does."""
    ids = list(rows)
    for name in rng.sample(ids, 10):
        rows[name] = title(rng)
    for name in rng.sample(ids, 10):
        rows.pop(name)
    for _ in range(10):
        rows[f"new{rng.randrange(10**9)}"] = title(rng)
    rng.shuffle(ids := list(rows))
    return {name: rows[name] for name in ids}


def write(rows: dict[str, str], path: Path) -> None:
    path.write_text("".join(json.dumps({"id": i, "title": t, "shelf": t[:3]}) + "\n" for i, t in rows.items()))


def run(catalog: Path, store: Path, kill_after: float | None) -> bool:
    """Run the job in a process of its own, perhaps only for a while after it got going. Returns whether it finished.

    Nothing that was written before is encoded again.
    """
    before = {content.hex() for content in written(store)}
    log = store.with_suffix(".encoded")
    log.write_text("")
    try:
        return _run(catalog, store, log, kill_after)
    finally:
        assert before.isdisjoint(log.read_text().split())


def _run(catalog: Path, store: Path, log: Path, kill_after: float | None) -> bool:
    with subprocess.Popen([sys.executable, "-c", JOB, catalog, store, log], stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        if kill_after is None:
            return job.wait() == 0
        time.sleep(kill_after)
        job.kill()
        job.wait()
        return job.stdout.read() == "done\n"


def written(store: Path) -> list[bytes]:
    path = Layout(store).vectors(SPACE)
    return lance.dataset(str(path)).to_table(columns=["hash"])["hash"].to_pylist() if path.exists() else []


def survive(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    rows = {f"item{n}": title(rng) for n in range(150)}
    catalog, store = tmp_path / "catalog.jsonl", tmp_path / "store"
    for _ in range(kills):
        write(rows, catalog)
        run(catalog, store, kill_after=rng.uniform(0, 4))
        rows = change(rows, rng)
    write(rows, catalog)
    assert run(catalog, store, kill_after=None)
    hashes = written(store)
    assert len(hashes) == len(set(hashes))
    ids = [name for batch in ItemTable(Layout(store).items).ids() for name in batch]
    assert sorted(ids) == sorted(rows)
    assert list((store / "staging").iterdir()) == []
    encoder = MiniLM()
    grown = mmrec.open(store, encoders=[encoder])
    source = open_source(catalog, COLUMNS)
    fresh_store = Layout(tmp_path / "fresh")
    mmrec.index_items(source, source.metadata_schema, fresh_store, [encoder], mmrec.Indexing())
    fresh = mmrec.open(fresh_store.root, encoders=[encoder])
    assert grown.status()["items"] == fresh.status()["items"] == len(rows)
    fields = [ItemTable(layout.items).by_id(list(rows)) for layout in (Layout(store), fresh_store)]
    contents = [[some[name].fields[0].hash for name in rows] for some in fields]
    tables = [VectorTable(layout.vectors(SPACE), SPACE) for layout in (Layout(store), fresh_store)]
    (found, old), (_, new) = (table.fetch(some) for table, some in zip(tables, contents, strict=True))
    assert found.all()
    assert contents[0] == contents[1]
    lengths = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    assert (np.einsum("nd,nd->n", old, new) / lengths).min() >= 0.99999
    one, two = grown.vectors(list(rows)), fresh.vectors(list(rows))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    assert (np.einsum("nd,nd->n", one, two) / lengths).min() >= 0.99999
    assert {name: grown.show(name).text for name in rows} == rows


@pytest.mark.slow
def test_two_kills_cost_nothing(tmp_path):
    survive(tmp_path, kills=2)


@pytest.mark.slow
def test_twenty_kills_cost_nothing(tmp_path):
    survive(tmp_path, kills=20)


def test_a_job_and_live_changes_at_once_lose_nothing(tmp_path):
    encoder = MiniLM()
    layout = Layout(tmp_path / "store")
    rows = {f"item{n}": f"{WORDS[n % 18]} number {n}" for n in range(60)}
    catalog = tmp_path / "catalog.jsonl"
    write(rows, catalog)

    under_way, changed = threading.Event(), threading.Event()

    def index(*, pause: bool) -> None:
        def report(_: object) -> None:
            under_way.set()
            assert changed.wait(60) if pause else True

        source = open_source(catalog, COLUMNS)
        mmrec.index_items(source, source.metadata_schema, layout, [MiniLM()], mmrec.Indexing(report=report))

    index(pause=False)
    under_way.clear()
    engine = mmrec.open(layout.root, encoders=[encoder])
    write(rows | {f"more{n}": f"more {WORDS[n % 18]} {n}" for n in range(60)}, catalog)
    job = threading.Thread(target=index, kwargs={"pause": True})
    job.start()
    assert under_way.wait(60)
    for n in range(12):
        live = Item(f"live{n}", (Field(Modality.TEXT, "title", text=f"a live {WORDS[n]}"),), {"shelf": "l"})
        shared = Item("more3", (Field(Modality.TEXT, "title", text=f"a live {WORDS[n]}"),), {"shelf": "l"})
        engine.upsert([live, shared])
        engine.delete([f"item{n}"])
    changed.set()
    job.join()
    ids = [name for batch in ItemTable(layout.items).ids() for name in batch]
    assert len(ids) == len(set(ids))
    assert {f"live{n}" for n in range(12)} <= set(ids)
    assert {f"more{n}" for n in range(60)} <= set(ids)
    assert engine.search("a live boat", k=1).hits[0].id in {"live8", "more3"}
