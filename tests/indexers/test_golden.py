"""Saved indexes of each format version open for ever, and answer as they did.

`MMREC_WRITE_GOLDEN=1 pytest tests/indexers/test_golden.py` writes the files of the present version where they are
missing; a file that is there is never written again.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from indexers import IndexSpec, build, load
from indexers.files import VERSION

FOLDER = Path(__file__).parent / "golden"
FACTORIES = ("Exact", "Flat", "HNSW8,Flat", "HNSW8,SQ8", "IVF4,Flat", "IVF4,SQ8", "IVF4,PQ4x4,RFlat")
FACTORIES += ("IVF4,PQ8x4fs,RFlat", "IVF4,PQ8x4fs,Refine(SQ8)", "PQ8x4fs,RFlat")
FILES = sorted(FOLDER.glob("*.index"))


def vectors():
    """No generator whose stream a release of numpy may change."""
    return np.sin(np.arange(160 * 8, dtype=np.float64) ** 1.5).astype(np.float32).reshape(160, 8)


def answers(index):
    found = index.search(vectors()[::40] + np.float32(0.01), 5)
    few = index.search(vectors()[:1], 3, allowed=np.arange(0, 480, 30))
    return {
        "rows": [*found.rows.tolist(), *few.rows.tolist()],
        "scores": [*found.scores.tolist(), *few.scores.tolist()],
    }


@pytest.mark.parametrize("factory", FACTORIES)
def test_each_recipe_has_a_file_of_the_present_version(factory):
    path = FOLDER / f"v{VERSION}-{re.sub('[^A-Za-z0-9]+', '-', factory).strip('-')}.index"
    if os.environ.get("MMREC_WRITE_GOLDEN") and not path.exists():
        index = build(IndexSpec(factory, "ip"), 3 * np.arange(160), vectors())
        digest = index.save(path)
        path.with_suffix(".json").write_text(json.dumps({"sha256": digest, "factory": factory, **answers(index)}))
    assert path in FILES or os.environ.get("MMREC_WRITE_GOLDEN"), "write it, as the head of this file says"
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_opens_and_answers_as_it_did(path, tmp_path):
    recorded = json.loads(path.with_suffix(".json").read_text())
    index = load(path, recorded["sha256"])
    assert (index.spec.factory, len(index), index.dim) == (recorded["factory"], 160, 8)
    given = answers(index)
    assert given["rows"] == recorded["rows"]
    for one, other in zip(given["scores"], recorded["scores"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert index.save(tmp_path / "again") == recorded["sha256"]
