"""A small store with pictures, texts and sounds that lie beside it."""

from pathlib import Path

import pytest
from finetuning.shops import shop


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory, stamps_root: Path) -> Path:
    """Return the folder of the store; it is read alone."""
    return shop(tmp_path_factory.mktemp("shop"), stamps_root)
