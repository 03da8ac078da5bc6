"""Two processes align as one does: negatives of both, labels in line, dropout included."""

import json
from pathlib import Path

import numpy as np
import pytest
from launching import LAUNCHERS, launch
from safetensors.numpy import load_file

JOB = Path(__file__).parent / "align_job.py"


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_two_processes_align_as_one_does(tmp_path, loss):
    found = {}
    for name, launcher in {"one": [], **LAUNCHERS}.items():
        folder = tmp_path / name
        folder.mkdir()
        launch(launcher, JOB, str(folder), loss)
        ranks = [load_file(folder / f"{rank}.safetensors") for rank in range(2 if launcher else 1)]
        found[name] = json.loads((folder / "curve.json").read_text()), ranks
    curve, (weights,) = found["one"]
    assert len(curve) == 3
    for name in LAUNCHERS:
        other_curve, ranks = found[name]
        np.testing.assert_allclose(other_curve, curve, rtol=1e-4, atol=1e-5)
        for rank, others in enumerate(ranks):
            assert weights.keys() == others.keys()
            for part, weight in weights.items():
                np.testing.assert_allclose(others[part], weight, rtol=1e-4, atol=1e-5, err_msg=f"{name} {rank} {part}")
