"""Real stamps whose pictures are each other's: the command says so, and queries by text are answered as ever."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmrec
from mmrec.examples import write_stamps

COUNT = 240
LOST = 0.03
"""Of the queries' share, what four or five other orders of the pictures differ by."""


def index(folder, rows, name, *more):
    """Index by the command line; return what it said."""
    catalog = folder / f"{name}.jsonl"
    catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--id", "id", "--text", "text", "--metadata", "category", *more]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mmrec"), "index", str(catalog), str(folder / name), *columns],
        capture_output=True,
        text=True,
        check=True,
    )
    return " ".join(done.stderr.split())


@pytest.mark.slow
def test_shuffled_pictures_are_named_and_cost_queries_by_text_nothing(stamps_root, tmp_path, packaged):
    lines = write_stamps(stamps_root.resolve(), tmp_path / "all.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["text"] and row["picture"].endswith(".png")]
    rows = rows[:: len(rows) // COUNT][:COUNT]
    pictures = [row["picture"] for row in rows]
    assert "agree with their texts" not in index(tmp_path, rows, "own", "--image", "picture")
    random.Random(0).shuffle(pictures)
    shuffled = [{**row, "picture": picture} for row, picture in zip(rows, pictures, strict=True)]
    said = index(tmp_path, shuffled, "shuffled", "--image", "picture")
    assert re.search(r"warning: By image, items agree with their texts no better than chance: .* chance is 50%", said)
    index(tmp_path, rows, "texts")
    given = index(tmp_path, shuffled, "given", "--image", "picture", "--weights", "text=1,image=1")
    assert "agree with their texts" not in given

    kinds = sorted({row["category"] for row in rows})
    shown = {}
    for name in ("own", "shuffled", "texts", "given"):
        engine = mmrec.open(tmp_path / name, encoders=packaged)
        first = [engine.search(" ".join(row["text"].split()[::2]), k=1).hits[0].text == row["text"] for row in rows]
        kind = [hit.metadata["category"] == k for k in kinds for hit in engine.search(k, k=10).hits]
        alike = [engine.similar(row["id"], k=1).hits[0].metadata["category"] == row["category"] for row in rows]
        shown[name] = tuple(float(np.mean(found)) for found in (first, kind, alike))
    for without, found in zip(shown["texts"], shown["shuffled"], strict=True):
        assert found >= without - LOST, shown
    assert shown["given"][2] < shown["texts"][2] - LOST, shown
    assert shown["own"][2] > shown["texts"][2], shown
