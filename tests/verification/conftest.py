"""A small real store of two generations, and copies of it to be damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_store import NAMES, index

from mmrec.storage.layout import Layout


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    layout = Layout(tmp_path_factory.mktemp("made") / "store")
    index(layout, NAMES[:40])
    index(layout)
    return layout.root


@pytest.fixture
def layout(made, tmp_path) -> Layout:
    shutil.copytree(made, tmp_path / "store")
    return Layout(tmp_path / "store")


@pytest.fixture
def flip() -> Callable[[Path], None]:
    def flipped(path: Path, place: float = 0.6) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 0x40
        path.write_bytes(bytes(data))

    return flipped
