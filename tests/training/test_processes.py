"""Two processes compute what one does: the same losses, dropout included, and the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from launching import LAUNCHERS, launch
from safetensors.numpy import load_file

JOB = Path(__file__).parent / "train_job.py"


def run(launcher, folder):
    folder.mkdir()
    launch(launcher, JOB, str(folder))
    return json.loads((folder / "curve.json").read_text()), load_file(folder / "tower.safetensors")


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    curve, weights = run([], tmp_path / "one")
    assert len(curve) == 3
    for name, launcher in LAUNCHERS.items():
        other_curve, other_weights = run(launcher, tmp_path / name)
        np.testing.assert_allclose(other_curve, curve, rtol=1e-4, atol=1e-5)
        assert weights.keys() == other_weights.keys()
        for part, weight in weights.items():
            np.testing.assert_allclose(other_weights[part], weight, rtol=1e-3, atol=1e-4, err_msg=f"{name} {part}")
