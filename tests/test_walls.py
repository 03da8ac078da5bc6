"""The walls of the house: what may import what, and what stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("indexers", "mmrec", "pipelines")
HEAVY = (
    "torch",
    "torchvision",
    "torchaudio",
    "faiss",
    "lance",
    "transformers",
    "datasets",
    "timm",
    "open_clip",
    "scipy",
)
FACES = ("mmrec", "indexers", "pipelines.cli")

_STAYS_LIGHT = """
import sys
import {face}
loaded = sorted(set({heavy}) & set(sys.modules))
sys.exit(f"import {face} loads {{', '.join(loaded)}}" if loaded else 0)
"""

_WORKS_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import {face}
"""


def _modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_import_contracts_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("face", FACES)
def test_faces_stay_light(face: str) -> None:
    _run(_STAYS_LIGHT.format(face=face, heavy=HEAVY))


@pytest.mark.parametrize("face", FACES)
def test_faces_work_where_heavy_packages_are_missing(face: str) -> None:
    _run(_WORKS_WITHOUT.format(face=face, heavy=HEAVY))


def test_no_module_imports_the_face_of_its_own_package() -> None:
    faults = []
    for path in _modules():
        if path.name == "__init__.py":
            continue
        own = _dotted(path).rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module == own:
                faults += [f"{path}:{node.lineno} {name.name}" for name in node.names if not _is_module(own, name.name)]
            elif isinstance(node, ast.Import):
                faults += [f"{path}:{node.lineno} {name.name}" for name in node.names if name.name == own]
    assert faults == []


def _is_module(package: str, name: str) -> bool:
    inside = ROOT.joinpath(*package.split("."), name)
    return inside.with_suffix(".py").is_file() or inside.is_dir()


def test_nothing_is_imported_relatively() -> None:
    relative = [
        f"{path}:{node.lineno}"
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
