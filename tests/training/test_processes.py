"""Two processes compute what one does: the same losses, dropout included, and the same weights."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from launching import LAUNCHERS, launch
from safetensors.numpy import load_file
from small_store import NAMES, index

from mmrec.events.event import Event
from mmrec.events.log import open_log
from mmrec.storage.generations import current_number
from mmrec.storage.layout import Layout
from mmrec.verification.verify import verify_store

HOUR = timedelta(hours=1)
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


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_give_one_command_and_one_generation(tmp_path, launcher):
    layout = Layout(tmp_path / "store")
    index(layout)
    log = open_log(layout.events)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for person in range(12):
        log.append([Event(f"p{person}", NAMES[person * 3 + step], "like", start + step * HOUR) for step in range(8)])
    log.close()
    config = tmp_path / "config.toml"
    config.write_text('device = "cpu"\nepochs = 2\nshards = 2\n[tower]\ndim = 16\nwidth = 16\ninner = 16\nwindow = 8\n')
    job = JOB.with_name("learn_job.py")
    done = launch(LAUNCHERS[launcher], job, "train", str(layout.root), "--config", str(config), "--json")
    assert json.loads(done.stdout)["generation"] == current_number(layout) == 2
    assert done.stderr.count("epoch 2:") == 1
    assert verify_store(layout).sound
