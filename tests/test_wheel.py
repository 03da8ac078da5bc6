"""What is shipped: three packages, their data, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"indexers", "mmrec", "pipelines"}
DATA = {".css", ".jinja", ".json", ".toml", ".txt"}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel and return the names inside it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_top_level_names(shipped: list[str]) -> None:
    tops = {name.partition("/")[0] for name in shipped}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert sum(top.endswith(".dist-info") for top in tops) == 1


def test_every_source_and_data_file_is_inside(shipped: list[str]) -> None:
    on_disk = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA | {".py"}
    }
    assert "pipelines/contact_sheet.html.jinja" in on_disk
    assert on_disk <= set(shipped)


def test_command_and_licence_are_inside(shipped: list[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in shipped)
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
