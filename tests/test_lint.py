"""The linters see what they are there for: an undefined name does not pass, a one-word array shape does."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = "mmrec/compute.py"
PLANTED = '''

def planted(shape: Int64[np.ndarray, " undefined_shape"]) -> int:
    """Return a name that nothing defines."""
    return undefined_nmae
'''


@pytest.fixture
def planted(root: Path, tmp_path: Path) -> Path:
    """Copy a module and plant an undefined name and a one-word shape at its end."""
    copy = Path(shutil.copy(root / MODULE, tmp_path / "planted.py"))
    imports = "import numpy as np\nfrom jaxtyping import Int64\n"
    text = copy.read_text()
    end_of_docstring = text.index('"""', 3) + 4
    copy.write_text(text[:end_of_docstring] + "\n" + imports + text[end_of_docstring:] + PLANTED)
    return copy


def run(root: Path, *command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=root, capture_output=True, text=True, check=False
    ).stdout


def test_ruff_finds_an_undefined_name_and_reads_no_shape_as_one(root: Path, planted: Path) -> None:
    found = run(root, "ruff", "check", "--config", "pyproject.toml", "--output-format", "concise", str(planted))
    assert [line for line in found.splitlines() if "F821" in line and "undefined_nmae" in line]
    assert "undefined_shape" not in found


def test_mypy_finds_an_undefined_name(root: Path, planted: Path) -> None:
    found = run(root, "mypy", "--follow-imports=skip", "--cache-dir=/dev/null", str(planted))
    assert 'Name "undefined_nmae" is not defined' in found
