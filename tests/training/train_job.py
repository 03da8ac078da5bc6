"""Trains a small tower and writes its curve; run by one or several processes."""

import json
import sys
from pathlib import Path

from training.made import ROWS, contents, random_histories, small_config

from mmrec.events.splits import leave_one_out
from mmrec.training.train import train

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = small_config(epochs=3, shards=2, tower={"interests": 2})
    trained = train(leave_one_out(random_histories(30)), contents(), ROWS, config, folder)
    curve = [(epoch.loss, epoch.score, epoch.scale) for epoch in trained.report.curve]
    (folder / "curve.json").write_text(json.dumps(curve))
