"""RecTools' SASRec in a process and an environment of its own, trained some epochs at a time."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from benchmarks.report import WORK
from mmrec.events.histories import Histories

__all__ = ["RecTools", "Turn"]

ENVIRONMENT = WORK / "rectools-env"
# RecTools leaves torch open; 2.11 is what is used here.
REQUIREMENTS = ("rectools[torch]==0.19.0", "torch==2.11.0")
JOB = """
import json, logging, sys, time, warnings
answers, sys.stdout = sys.stdout, sys.stderr
warnings.simplefilter("ignore")
import pandas as pd, torch
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
torch.set_num_threads(1)
seconds = []
class Clock(Callback):
    def on_train_epoch_start(self, *_):
        self.began = time.process_time()
    def on_train_epoch_end(self, *_):
        seconds.append(time.process_time() - self.began)
def trainer():
    return Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                   enable_model_summary=False, devices=1, accelerator="cpu", callbacks=[Clock()])
def dataset(path):
    return Dataset.construct(pd.read_csv(path, parse_dates=["datetime"]))
def lists(known):
    found = model.recommend(users=known.user_id_map.external_ids, dataset=known, k=10, filter_viewed=True)
    return {str(user): items.tolist() for user, items in found.groupby("user_id")["item_id"]}
learned, known = map(dataset, sys.argv[1:])
torch.manual_seed(0)
model = SASRecModel(n_blocks=2, n_heads=2, n_factors=64, dropout_rate=0.3, session_max_len=100, loss="softmax",
                    lr=2e-3, batch_size=32, get_trainer_func=trainer)
for line in sys.stdin:
    seconds.clear()
    model.fit_partial(learned, min_epochs=int(line), max_epochs=int(line))
    answer = {"seconds": seconds, "validation": lists(learned), "test": lists(known)}
    print(json.dumps(answer), file=answers, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of some epochs.

    Attributes:
        seconds: Processor seconds of each.
        validation: Ten items for each person that has only the events that were learned from.
        test: Ten items for each person with the validation events too.

    """

    seconds: tuple[float, ...]
    validation: dict[str, list[int]]
    test: dict[str, list[int]]


class RecTools:
    """A training that takes turns with another; a context that ends its process."""

    def __init__(self, learned: Histories, known: Histories, folder: Path) -> None:
        """Take what is learned from, and the same with what may be looked at to predict the test events."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [_csv(learned, folder / "train.csv"), _csv(known, folder / "known.csv")]
        command = [str(_python()), "-c", JOB, *map(str, files)]
        self._errors = (folder / "rectools.log").open("w")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()
        self._errors.close()

    def train(self, epochs: int) -> Turn:
        """Train so many epochs more."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The process has no pipes.")
        self._process.stdin.write(f"{epochs}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"RecTools' process ended; see {self._errors.name}")
        told = json.loads(line)
        return Turn(tuple(told["seconds"]), told["validation"], told["test"])


def _csv(histories: Histories, path: Path) -> Path:
    lines = ["user_id,item_id,weight,datetime"]
    people = histories.user_ids.to_pylist()
    for place, owner in enumerate(histories.owners.tolist()):
        # A microsecond more for each keeps events of one instant in their order.
        moment = np.datetime64(int(histories.times[place]) + place - int(histories.offsets[owner]), "us")
        lines.append(f"{people[owner]},{histories.items[place]},1,{moment}")
    path.write_text("\n".join(lines))
    return path


def _python() -> Path:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS], check=True)
    return python
