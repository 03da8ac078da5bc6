"""The page about store files says what is in a real store, both ways."""

import re
import sqlite3
from fnmatch import fnmatch
from pathlib import Path

import lance
import pytest

from mmrec.storage.generations import Manifest
from mmrec.storage.layout import EVENT_FILES
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
SOMETIMES = {"staging/*", "damaged/*", "training/*", "encode.lock", *EVENT_FILES[1:]}
"""What a store has only while something runs, or after some commands."""
OF_A_TOWER = {"tower.json", "tower.safetensors", "taste.npy", "taste.faiss"}


def column_of(heading: str) -> list[str]:
    """Return the names in the first column of the table under a heading."""
    section = re.split(r"^#+ ", PAGE.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "c.csv").write_text("id,title\na,A boat\n,A duck without an id\n")
    (folder / "e.csv").write_text("user,item,kind,time\nann,a,like,2026-01-01T00:00:00Z\n")
    shop = folder / "shop"
    for command in (
        ["index", str(folder / "c.csv"), str(shop), "--id", "id", "--text", "title"],
        ["events", "import", str(shop), str(folder / "e.csv")],
    ):
        assert run_app(app, command) == ExitCode.DONE
    return shop


def test_every_file_of_a_store_is_described_and_every_described_file_is_there(store):
    described = [
        re.sub(r"SPACE-FINGERPRINT|\bN\b", "*", name) for name in column_of("Store files") if not name.startswith("{")
    ]
    patterns = [f"{name}*" if name.endswith("/") else name for name in described]
    files = [path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()]
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    unused = {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in files)}
    assert unused <= SOMETIMES


def test_the_files_of_a_generation_are_described(store):
    described = set(column_of("A generation"))
    there = {path.name for path in (store / "generations" / "1").iterdir()}
    assert there == described - OF_A_TOWER
    assert described >= OF_A_TOWER


def test_the_manifest_s_keys_are_described():
    assert column_of("`manifest.json`") == list(Manifest.model_fields)


def test_the_columns_of_tables_are_described(store):
    (vectors,) = (store / "vectors").iterdir()
    assert lance.dataset(str(store / "items.lance")).schema.names == column_of("Items")[:4]
    assert lance.dataset(str(vectors)).schema.names == column_of("Vectors")
    assert b"fingerprint" in lance.dataset(str(vectors)).schema.metadata
    assert lance.dataset(str(store / "quarantine.lance")).schema.names == column_of("Quarantine")


def test_the_tables_of_the_log_are_described(store):
    section = PAGE.partition("## Events\n")[2]
    described = {
        names[0]: names[1:]
        for line in section.splitlines()
        if (names := re.findall(r"`(\w+)`", line)) and line.startswith("| `")
    }
    with sqlite3.connect(store / "events.db") as log:
        tables = [name for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        there = {
            table: [row[1] for row in log.execute(f"PRAGMA table_info({table})")]
            for table in tables
            if not table.startswith("sqlite_")
        }
    assert there == described
