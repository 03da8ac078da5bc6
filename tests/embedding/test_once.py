"""A content is encoded once and has one vector, whoever encodes it at the same time and whenever a job is killed."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import mmrec
from mmrec.embedding.job import EmbeddingJob
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorTable
from mmrec.verification.verify import verify_store

sys.path.insert(0, str(Path(__file__).parent))
import media_job

JOB = Path(__file__).with_name("media_job.py")
APPEND = "mmrec.embedding.encoding:VectorAppender.append"
STEPS = [
    *(f"{APPEND}:{number}:{when}" for number in range(1, 6) for when in ("before", "after")),
    *(f"mmrec.storage.tables:lance.write_dataset:{number}:after" for number in (1, 2, 4)),
    "mmrec.embedding.commit:commit_items:1:before",
    "mmrec.embedding.commit:commit_items:1:after",
    "mmrec.generation.build:publish:1:before",
    "mmrec.storage.generations:write_atomically:2:before",
]
STEPS_OF_A_MIGRATION = [  # it has more spaces to write, and a table of its own to create
    *(f"{APPEND}:{number}:{when}" for number in (6, 7) for when in ("before", "after")),
    "mmrec.storage.tables:create_table:1:after",
]
BETWEEN_SPACES = [("index", f"{APPEND}:4:before"), ("move", f"{APPEND}:5:before")]


def rows_of(numbers, word=""):
    return {f"i{n}": [f"text {n}{word}", 300 * n + 40 * len(word), n + len(word)] for n in numbers}


OLD, NEW = rows_of(range(10)), rows_of([*range(4, 8)]) | rows_of([8, 9, 10, 11], " edited")


def start(what, which, store, rows, step=""):
    state = store.parent / f"{what}.json"
    state.write_text(json.dumps(rows))
    marker = uuid.uuid4().hex
    environment = os.environ | {
        "MMREC_TEST_MARKER": marker,
        "PYTHONPATH": os.pathsep.join([str(JOB.parent), *sys.path]),
    }
    command = [sys.executable, JOB, what, which, store, state, step]
    return marker, subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def running(marker: str) -> list[str]:
    """Processes that were started by one of ours, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def assert_none_left(marker: str, seconds: float = 1.0) -> None:
    end = time.monotonic() + seconds
    while left := running(marker):
        assert time.monotonic() < end, left
        time.sleep(0.02)


def vectors_by_key(store: Path, encoders):
    spaces = {one for encoder in encoders for some in encoder.spaces.values() for one in some}
    tables = {one: VectorTable(Layout(store).vectors(one), one) for one in spaces}
    found = {}
    for one, table in tables.items():
        hashes = [key.tobytes() for key in table.keys.keys]
        assert len(hashes) == len(set(hashes)), one.name
        found[one.name] = dict(zip(hashes, table.fetch(hashes)[1].tolist(), strict=True))
    return found


def assert_as_fresh(store: Path, rows, which: str) -> None:
    """Sound, and each item with the contents and vectors that a store has which saw nothing but these rows."""
    assert verify_store(Layout(store), full=True).findings == []
    fresh, used = store.parent / "fresh", media_job.encoders(which)
    media_job.do("index", fresh, rows, used)
    contents = []
    for path in (store, fresh):
        table = ItemTable(Layout(path).items)
        names = sorted(name for batch in table.ids() for name in batch)
        by_id = table.by_id(names)
        contents.append({name: [(one.column, one.hash) for one in by_id[name].fields] for name in names})
    assert contents[0] == contents[1]
    grown, new = vectors_by_key(store, used), vectors_by_key(fresh, used)
    for name, vectors in new.items():
        assert vectors.keys() <= grown[name].keys()
        for key, vector in vectors.items():
            assert np.dot(vector, grown[name][key]) >= 0.99999 * np.linalg.norm(vector) * np.linalg.norm(
                grown[name][key]
            )


def survive(tmp_path, what, step):
    """Kill a job at a step, and do it again: only what was not whole then is encoded."""
    store, which, rows = tmp_path / "store", "new" if what == "move" else "old", OLD if what == "move" else NEW
    media_job.do("index", store, OLD, media_job.encoders("old"))
    marker, job = start(what, which, store, rows, step)
    with job:
        assert job.wait() == -9
    assert_none_left(marker)
    used = media_job.encoders(which)
    whole = [media_job.complete(store, encoder) for encoder in used]
    media_job.do(what, store, rows, used)
    for encoder, before in zip(used, whole, strict=True):
        assert len(encoder.encoded) == len(set(encoder.encoded))
        assert before.isdisjoint(encoder.encoded)
        if isinstance(encoder, media_job.Headed):
            assert encoder.encoded == []  # the head's vectors follow from the stored ones
    assert_as_fresh(store, rows, which)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "step"), BETWEEN_SPACES)
def test_a_kill_between_the_spaces_of_an_encoder_doubles_nothing(tmp_path, what, step):
    survive(tmp_path, what, step)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "step"),
    [(what, step) for what in ("index", "move") for step in STEPS] + [("move", step) for step in STEPS_OF_A_MIGRATION],
)
def test_a_kill_at_any_step_of_media_and_of_a_migration_doubles_nothing(tmp_path, what, step):
    if (what, step) not in BETWEEN_SPACES:
        survive(tmp_path, what, step)


@pytest.mark.slow
def test_sixty_kills_in_three_modes_cost_nothing(tmp_path):
    rng, store = random.Random(60), tmp_path / "store"
    rows = rows_of(range(40))
    media_job.do("index", store, rows, media_job.encoders("old"))
    log = Path(f"{store}.encoded")
    killed = 0
    for number in range(60):
        what, which = ("index", "upsert", "move")[number % 3], rng.choice(("old", "new"))
        for n in rng.sample(range(60), 12):
            rows[f"i{n}"] = [f"text {rng.randrange(10**6)}", rng.randrange(60_000), rng.randrange(500)]
        some = dict(rng.sample(sorted(rows.items()), 8)) if what == "upsert" else rows
        if what == "move":
            some = {}  # what the store has
        log.write_text("")
        whole = [media_job.complete(store, encoder) for encoder in media_job.encoders(which)]
        marker, job = start(what, which, store, some)
        with job:
            assert job.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 3))
            job.kill()
            killed += job.wait() == -9
        assert_none_left(marker)
        encoded = log.read_text().split()
        assert all(before.isdisjoint(encoded) for before in whole)
    assert killed > 30
    media_job.do("index", store, rows, media_job.encoders("old"))
    assert_as_fresh(store, rows, "old")


class Slow(media_job.Fake):
    """Takes so long that others come in between."""

    def encode(self, modality, samples):
        time.sleep(0.2)
        return super().encode(modality, samples)


def test_two_threads_that_upsert_equal_contents_encode_and_write_them_once(tmp_path):
    store, spaces = tmp_path / "store", (media_job.space("words", "a"), media_job.space("more-words", "2"))
    media_job.do("index", store, rows_of([0]), [Slow(media_job.TEXT, *spaces)])
    engine = mmrec.open(store, encoders=[encoder := Slow(media_job.TEXT, *spaces)])
    new = [
        one.__class__(one.id, one.fields[:1], {}, one.row) for one in media_job.items(rows_of(range(1, 8)), tmp_path)
    ]
    tallies, together = [], threading.Barrier(3)

    def upsert():
        together.wait()
        tallies.append(engine.upsert(new))

    threads = [threading.Thread(target=upsert) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tally.encoded["text"] for tally in tallies) == 7
    assert len(encoder.encoded) == 7
    assert all(len(some) == 8 for some in vectors_by_key(store, [encoder]).values())
    assert verify_store(Layout(store), full=True).findings == []
    assert {engine.search(f"text {n}", k=1).hits[0].id for n in range(8)} == {f"i{n}" for n in range(8)}


@pytest.mark.slow
def test_two_processes_that_upsert_equal_contents_encode_and_write_them_once(tmp_path):
    store = tmp_path / "store"
    media_job.do("index", store, rows_of([0]), media_job.encoders("old"))
    jobs = [start("upsert", "old", store, rows_of(range(1, 7)))[1] for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    for job in jobs:
        job.stdout.close()
    encoded = Path(f"{store}.encoded").read_text().split()
    assert len(encoded) == len(set(encoded)) == 18
    assert all(len(some) == 7 for some in vectors_by_key(store, media_job.encoders("old")).values())
    assert verify_store(Layout(store), full=True).findings == []


def test_a_job_writes_nothing_that_a_live_change_was_quicker_with(tmp_path):
    """A job that found a content missing hours ago leaves what is there by now as it is."""
    store, spaces = tmp_path / "store", (media_job.space("words", "a"),)
    Layout(store).create()
    (new,) = media_job.items(rows_of([1]), tmp_path)
    new = new.__class__(new.id, new.fields[:1], {}, 0)
    early, late = (EmbeddingJob(Layout(store), [media_job.Fake(media_job.TEXT, *spaces)]) for _ in range(2))
    early.run([new], media_job.SCHEMA)
    late.run([new], media_job.SCHEMA)
    assert [len(some) for some in vectors_by_key(store, late.encoders).values()] == [1]
