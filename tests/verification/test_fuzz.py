"""Whatever happens to a store's files, verify says so without falling over, and what it names mends it."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_store import Cheap, mend_wholly

import mmrec
from mmrec.errors import StoreError
from mmrec.storage.layout import Layout
from mmrec.verification.verify import verify_store


def damage(root: Path, rng: random.Random) -> str:
    """Flip bits of, cut, empty, overwrite, swap or delete some file of a store."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "commit.lock")
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flips", "cut", "empty", "nonsense", "swap", "delete", "folder"])
    if kind in {"flip", "flips"} and data:
        for _ in range(1 if kind == "flip" else 20):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
    elif kind == "cut":
        path.write_bytes(bytes(data[: rng.randrange(len(data) + 1)]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "nonsense":
        path.write_bytes(rng.randbytes(len(data)))
    elif kind == "swap":
        shutil.copy(rng.choice([other for other in files if other != path]), path)
    elif kind == "delete":
        path.unlink()
    elif kind == "folder":
        kind = f"folder of {path.parent.relative_to(root)}"
        if path.parent != root:
            shutil.rmtree(path.parent)
    return f"{kind}: {path.relative_to(root)}"


def answers(root: Path):
    engine = mmrec.open(root, encoders=[Cheap()])
    names = [f"i{n}" for n in range(60)]
    shown = {name: engine.show(name) for name in names}
    return shown, engine.vectors(names), [entry.id for entry in engine.quarantined()]


def survive(made: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    shutil.copytree(made, tmp_path / "store")
    layout = Layout(tmp_path / "store")
    done = [damage(layout.root, rng) for _ in range(rng.choice([1, 1, 1, 3]))]
    if not layout.items.exists() and not layout.generations.exists() and not (layout.root / "store.json").exists():
        with pytest.raises(StoreError, match="is not a mmrec store"):
            verify_store(layout)
        return
    report = verify_store(layout)
    if report.sound:
        before, after = answers(made), answers(layout.root)
        assert before[0] == after[0], done
        np.testing.assert_allclose(before[1], after[1], atol=2e-3, err_msg=str(done))
        assert before[2] == after[2], done
    mend_wholly(layout)


@pytest.mark.parametrize("seed", range(6))
def test_random_damage_is_found_and_mended(made, tmp_path, seed):
    survive(made, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_much_random_damage_is_found_and_mended(made, tmp_path, seed):
    survive(made, tmp_path, seed)
