"""Make golden stores: small stores, towers and fine-tuned encoders in the format of the version that runs this.

    python tests/golden/make.py tests/golden/v1

Run with the released version whose format is to be kept, never again afterwards: later versions must open what it made
(`test_golden.py`). Where the ranking of text queries was changed on purpose since, `expected.json` has the answers of
that change. Everything is made by the `mmrec` command from a catalog that a seed decides. Formats that the archives
cover: `store.json`, Lance tables of items, vectors and quarantine, manifests, fusion, FAISS files (exact and
HNSW), the event log in SQLite, user towers, and folders of fine-tuned heads.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

QUERIES = ("a red apple", "a loud bird in the forest", "an old boat on the sea", "music for dancing")
KINDS = ("apple", "bird", "boat", "drum", "house", "horse", "guitar", "rose")
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
TOWER = "device = 'cpu'\nepochs = 3\n[tower]\ndim = 16\nwidth = 16\ninner = 16\nlayers = 1\nwindow = 20\n"


def mmrec(*words: str | Path) -> str:
    """Run the `mmrec` command; its standard output."""
    command = [Path(sys.executable).with_name("mmrec"), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def write_catalog(folder: Path, rng: random.Random) -> Path:
    """48 items: all with a text, twelve with an image, eight with audio; one image is broken."""
    lines = []
    for n in range(48):
        kind, colour = KINDS[n % len(KINDS)], rng.choice(COLOURS)
        row = {
            "id": f"item-{n:02}",
            "title": f"a {colour} {kind}",
            "description": f"number {n}: {kind} that is {rng.choice(('small', 'large', 'old', 'new'))} and {colour}",
            "price": round(rng.uniform(1, 100), 2),
            "stock": rng.randrange(50),
            "sold": n % 3 == 0,
            "kind": kind,
            "tags": [colour, kind],
            "added": f"2026-10-{n % 28 + 1:02}",
        }
        if n % 4 == 0:
            row["picture"] = f"{n}.png"
            pixels = np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{n}.png")
        if n % 6 == 0:
            row["sound"] = f"{n}.wav"
            tone = np.sin(np.arange(8_000) * (0.02 + 0.005 * n)) * 9_000
            with wave.open(str(folder / f"{n}.wav"), "wb") as file:
                file.setparams((1, 2, 8_000, 0, "NONE", ""))
                file.writeframes(tone.astype("<i2").tobytes())
        lines.append(row)
    (folder / "44.png").write_bytes(b"not an image")
    path = folder / "catalog.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_events(path: Path, rng: random.Random) -> None:
    """Views, likes, purchases, hides and ratings of twenty users, each of whom likes two kinds."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    with path.open("w", encoding="utf-8") as file:
        for n in range(400):
            user, liked = n % 20, rng.random() < 0.8
            place = rng.randrange(6) * 8 + (user + rng.randrange(2)) % 8 if liked else rng.randrange(48)
            kind = rng.choice(("view", "view", "click", "like", "purchase", "rate")) if liked else "hide"
            row = {"user": f"user-{user:02}", "item": f"item-{place:02}", "kind": kind}
            row["time"] = (start + timedelta(hours=n)).isoformat()
            if kind == "rate":
                row["value"] = rng.randrange(3, 6)
            file.write(json.dumps(row) + "\n")


def answers(store: Path, *more: str) -> dict[str, object]:
    """What a store answers: ids and rounded scores of searches, recommendations by history, counts."""

    def hits(*words: str) -> list[list[object]]:
        found = json.loads(mmrec(*words, "--json"))
        return [[hit["id"], round(hit["score"], 4)] for hit in found["results"]]

    found: dict[str, object] = {
        f"search --text {query}": hits("search", store, "--text", query, "-k", "10", *more) for query in QUERIES
    }
    where = "price < 50 and sold = true"
    found["search --where"] = hits("search", store, "--text", QUERIES[0], "--where", where, "-k", "10", *more)
    found["search --against image"] = hits("search", store, "--text", QUERIES[0], "--against", "image", *more)
    found["similar"] = {one: hits("similar", store, one, "-k", "10") for one in ("item-00", "item-13")}
    found["recommend --history"] = hits("recommend", store, "--history", "item-00,item-08,item-16", "-k", "10", *more)
    status = json.loads(mmrec("status", store, "--json"))
    found["items"] = status["items"]
    rows = json.loads(mmrec("quarantine", store, "--json"))
    found["quarantined"] = sorted(row["id"] for row in (rows["quarantined"]))
    return found


def make(out: Path) -> None:
    """Make all archives, and `expected.json` beside them."""
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = write_catalog(folder, rng)
        events, tower = folder / "events.jsonl", folder / "tower.toml"
        write_events(events, rng)
        tower.write_text(TOWER, encoding="utf-8")
        columns = ["--id", "id", "--text", "title,description", "--image", "picture", "--audio", "sound"]
        columns += ["--metadata", "price,stock,sold,kind,tags,added", "--yes"]
        store, other = folder / "shop", folder / "hnsw"
        mmrec("index", catalog, store, *columns)
        mmrec("events", "import", store, events)
        mmrec("train", store, "--config", tower)
        mmrec("delete", store, "item-47")
        rows = catalog.read_text(encoding="utf-8").splitlines()
        changed = json.loads(rows[0]) | {"title": "a purple bird", "id": "item-48"}
        (folder / "more.jsonl").write_text(json.dumps(changed) + "\n", encoding="utf-8")
        mmrec("index", folder / "more.jsonl", store, *columns, "--add")
        mmrec("index", catalog, other, *columns, "--index", "HNSW16", "--weights", "text=1,image=0.5,audio=0.25")
        mmrec("finetune", "align", store, "--out", folder / "tuned")
        shutil.copytree(store, folder / "tuned-shop")
        mmrec("index", folder / "tuned-shop", "--encoders", folder / "tuned" / "encoders", "--force")
        expected = {
            "shop": answers(store),
            "hnsw": answers(other),
            "tuned-shop": answers(folder / "tuned-shop", "--encoders", str(folder / "tuned" / "encoders")),
        }
        out.mkdir(parents=True, exist_ok=True)
        for part in (*expected, "tuned"):
            with tarfile.open(out / f"{part}.tar.xz", "w:xz") as archive:
                archive.add(folder / part, arcname=part, filter=_plain)
        (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without owners and times, and without locks and logs of the training."""
    if entry.name.endswith((".lock", "-shm")) or "tfevents" in entry.name or "/training" in entry.name:
        return None
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the archives, as tests/golden/v1")
    make(parser.parse_args().out)
