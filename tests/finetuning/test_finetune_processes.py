"""The command in two processes: the curve and the report of one, written by one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from finetuning.shops import config, towers
from launching import LAUNCHERS, launch

from mmrec.events.event import Event
from mmrec.events.log import open_log

COMMAND = Path(__file__).parents[1] / "training" / "learn_job.py"
HEADS = '[towers.text]\nhow = "frozen"\n[towers.image]\nhow = "head"\n[towers.audio]\nhow = "head"\n'
TASTE = '[towers.text]\nhow = "head"\n[towers.image]\nhow = "head"\nhead = { dim = 384 }\n'
CASES = {
    "heads": ("align", HEADS, 1e-2),
    "lora": ("align", towers("lora"), 1e-3),
    "taste": ("coengage", TASTE, 1e-2),
}


def events(store: Path, path: Path) -> str:
    """Twelve people, each of whom takes seven items; returns the log's address."""
    ids = [json.loads(line)["id"] for line in (store.parent / "items.jsonl").read_text().splitlines()]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    log = open_log(path)
    for person in range(12):
        taken = [ids[(person + step * (1 + person % 3)) % len(ids)] for step in range(7)]
        log.append(
            [Event(f"p{person}", one, "like", start + timedelta(hours=place)) for place, one in enumerate(taken)]
        )
    log.close()
    return f"sqlite:///{path}"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_report_what_one_does(case, small_shop, tmp_path):
    objective, trained, rate = CASES[case]
    more = "shards = 2\npart_cost = 8\n" if case == "lora" else "shards = 2\n"
    settings = config(tmp_path, trained, rate=rate, more=more)
    asked = ["finetune", objective, str(small_shop), "--config", str(settings), "--json"]
    if objective == "coengage":
        asked += ["--events", events(small_shop, tmp_path / "log.db")]
    found = {}
    for name, launcher in {"one": [], "torchrun": LAUNCHERS["torchrun"]}.items():
        out = tmp_path / name
        done = launch(launcher, COMMAND, *asked, "--out", str(out))
        # One document and each epoch once, however many processes there are.
        assert json.loads(done.stdout)["epochs"] == 2
        assert done.stderr.count("epoch 2:") == 1
        assert len(list((out / "tensorboard").rglob("*tfevents*"))) == 1
        found[name] = json.loads((out / "report.json").read_text())
    one, two = found.values()
    assert one["counts"] == two["counts"]
    for before, after in zip(one["curve"], two["curve"], strict=True):
        assert after["epoch"] == before["epoch"]
        np.testing.assert_allclose([after["loss"], after["scale"]], [before["loss"], before["scale"]], rtol=1e-4)
    assert one["best_epoch"] == two["best_epoch"]
    assert one["verdict"]["word"] == two["verdict"]["word"]
    told = json.loads(launch(LAUNCHERS["torchrun"], COMMAND, *asked, "--dry-run").stdout)
    assert told["counts"] == one["counts"]
    assert told["steps"] >= 1
