"""Every list of names is true."""

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [path for package in ("indexers", "mmrec", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))]
FACES = [".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.name == "__init__.py"]


def _order(names: list[str]) -> list[str]:
    """Constants, classes, functions, each by name: the order that the linter keeps."""
    return sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize("name", FACES)
def test_faces_keep_their_promises(name: str) -> None:
    face = import_module(name)
    promised = getattr(face, "__all__", [])
    assert list(promised) == _order(promised)
    for each in promised:
        assert getattr(face, each) is not None
    if promised:
        assert set(promised) <= set(dir(face))
    with pytest.raises(AttributeError):
        getattr(face, "no_such_name")  # noqa: B009 the lazy lookup is what is tried


@pytest.mark.parametrize("name", FACES)
def test_no_name_of_a_face_is_that_of_a_file(name: str) -> None:
    """Importing the file would put the module in the place of what the face promises."""
    face = import_module(name)
    folder = ROOT.joinpath(*name.split("."))
    files = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert not files & set(getattr(face, "__all__", []))
