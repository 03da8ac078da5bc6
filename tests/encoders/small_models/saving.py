"""Checkpoints are built once, in a folder that goes when the tests end."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(tempfile.mkdtemp(prefix="mmrec-small-models-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)


def saved(build: Callable[[Path], None]) -> Callable[[], Path]:
    """Build a checkpoint once, in a folder named after its builder."""

    @functools.cache
    def folder() -> Path:
        path = ROOT / build.__name__
        path.mkdir()
        torch.manual_seed(0)
        build(path)
        return path

    return folder


# Wider than a trained network's first weights, so that contents lie well apart.
WIDE = {"initializer_range": 0.4}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, **WIDE}
