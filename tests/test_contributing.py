"""What CONTRIBUTING says works as written."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.types import Modality

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _block(language: str, heading: str) -> str:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (written,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", section, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(written)


def test_the_encoder_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mean_colour.py").write_text(_block("python", "Add an encoder in one file"), encoding="utf-8")
    (tmp_path / "encoders.toml").write_text(_block("toml", "Add an encoder in one file"), encoding="utf-8")
    (encoder,) = load_encoders(tmp_path / "encoders.toml", device="cpu")
    assert isinstance(encoder, Encoder)
    (space,) = encoder.spaces[Modality.IMAGE]
    red, blue = (encoder.prepare(Modality.IMAGE, Image.new("RGB", (9, 5), name)) for name in ("red", "blue"))
    together = encoder.encode(Modality.IMAGE, [red, blue])[space.name]
    alone = encoder.encode(Modality.IMAGE, [red])[space.name]
    assert together.shape == (2, space.dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


def test_the_recipe_in_one_file(root: Path, tmp_path: Path) -> None:
    """The file alone is put into a copy of `indexers`; the contract suite finds it, and it passes."""
    code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "indexers", tmp_path / "indexers", ignore=code)
    shutil.copytree(root / "tests" / "indexers", tmp_path / "tests" / "indexers", ignore=code)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/shape_checks.py"):
        shutil.copy(root / name, tmp_path / name)
    written = _block("python", "Add an index recipe in one file")
    (tmp_path / "indexers" / "families" / "half_floats.py").write_text(written, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    suites = [f"tests/indexers/test_{name}.py" for name in ("contract", "build", "live_laws")]
    done = subprocess.run(
        [*command, "-k", "SQfp16", *suites],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"(\d+) passed", done.stdout)
    assert ran is not None
    assert int(ran[1]) >= 75
    assert "failed" not in done.stdout
