"""What all tests share: no network, one thread, the stamps, and a reason for each test left out."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent

# Read when torch and transformers are first imported, so they are set before any test module is.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    XDG_STATE_HOME=tempfile.mkdtemp(prefix="mmrec-state-"),  # which encoders a user named: not the real user's
    LANCE_LOG="error",  # as the command line sets it
)
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none."""
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none here"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def stamps_root() -> Path:
    """Folder of the stamps in Debian's tuxpaint-stamps-default: pictures, texts and sounds by category."""
    given = os.environ.get("MMREC_STAMPS")
    if given:
        return Path(given)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("no apt here to fetch tuxpaint-stamps-default with; set MMREC_STAMPS to an unpacked copy")
    from mmrec.examples import fetch_stamps

    cache = ROOT / ".cache" / "stamps"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".tests.lock"):
        return fetch_stamps(cache)


@pytest.fixture(scope="session")
def packaged() -> tuple[Any, ...]:
    """Return the packaged encoders on the CPU, loaded once; their weights are read at first use."""
    from mmrec.encoders.presets import load_encoders

    return load_encoders("packaged", device="cpu")
