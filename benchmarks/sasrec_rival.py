"""SASRec beside that of RecTools: ``python -m benchmarks.sasrec_rival``; ``--quick`` times two epochs and no more.

The same events of ml-100k (leave-one-out), the same sizes (64 dimensions, 100 events, 2 blocks, 2 heads, dropout .3,
full softmax, AdamW against Adam at 2e-3, 32 people a batch), one thread each, the newest 100 events of each person an
epoch, nothing but their order. RecTools is installed in an environment of its own at first use. Seconds are those of
the processor, the two in turn, setting up left out; NDCG@10 is that of the test event among all unseen films, after the
epochs that RecTools is given, and at the best validation of as many epochs here.
"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from time import process_time

import numpy as np
import torch

from benchmarks.movielens_data import MovieLens
from benchmarks.movielens_statistics import ndcgs
from benchmarks.report import WORK, arguments, show
from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import DEFAULT_WEIGHTS
from mmrec.behaviour.splits import Split
from mmrec.heap import keep_freed_memory
from mmrec.training.config import TrainingConfig
from mmrec.training.course import Epoch
from mmrec.training.ranking import Ranking
from mmrec.training.train import train
from mmrec.training.windows import Events
from mmrec.users.tower_config import TowerConfig

ENVIRONMENT = WORK / "rectools-env"
# RecTools leaves torch open; 2.11 is what is used here.
REQUIREMENTS = ("rectools[torch]==0.19.0", "torch==2.11.0")
RIVAL = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import pandas as pd, torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel
torch.set_num_threads(1)
events, known, epochs, told = sys.argv[1:]
def dataset(path):
    return Dataset.construct(pd.read_csv(path, parse_dates=["datetime"]))
def fitted(count):
    torch.manual_seed(0)
    model = SASRecModel(n_blocks=2, n_heads=2, n_factors=64, dropout_rate=0.3, session_max_len=100, loss="softmax",
                        lr=2e-3, batch_size=32, epochs=count)
    began = time.process_time()
    model.fit(dataset(events))
    return model, time.process_time() - began
_, one = fitted(1)
model, several = fitted(int(epochs))
full = dataset(known)
found = model.recommend(users=full.user_id_map.external_ids, dataset=full, k=10, filter_viewed=True)
lists = {str(user): items.tolist() for user, items in found.groupby("user_id")["item_id"]}
with open(told, "w") as file:
    json.dump({"epoch": (several - one) / (int(epochs) - 1), "lists": lists}, file)
"""


def main() -> None:
    """Measure and print."""
    quick = arguments(__doc__ or "").quick
    rounds, epochs = (1, 3) if quick else (1, 100)
    torch.set_num_threads(1)
    keep_freed_memory()
    films = MovieLens()
    split = films.split("loo")
    rows: list[tuple[object, ...]] = [("round", "here: s an epoch", "NDCG@10", "RecTools: s an epoch", "NDCG@10")]
    ratios = []
    for number in range(rounds):
        own, own_gain = ours(films, split, epochs)
        their, their_gain = theirs(split, epochs)
        ratios.append(their / own)
        rows.append((number, own, f"{own_gain:.4f}", their, f"{their_gain:.4f}"))
    figures = {"sasrec_times_as_fast": float(np.median(ratios))}
    if not quick:
        figures |= {"sasrec_ndcg10": own_gain, "rectools_ndcg10": their_gain}
    show(f"SASRec, {epochs} epochs" + (", too few to judge by" if quick else ""), rows, figures)


def ours(films: MovieLens, split: Split, epochs: int) -> tuple[float, float]:
    """Processor seconds an epoch, and NDCG@10 on the test events."""
    tower = TowerConfig(content=False, inner=64, ask_time=False, spans=False)
    config = TrainingConfig(
        tower=tower, every_event=False, device="cpu", epochs=epochs, evaluate_every=max(1, epochs // 25), patience=100
    )
    folder = WORK / "sasrec-rival"
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    marks: list[tuple[Epoch, float]] = []
    trained = train(
        split, films.contents, films.rows, config, folder, said=lambda epoch: marks.append((epoch, process_time()))
    )
    # An epoch is timed from the end of the one before, where neither was validated in between.
    spent = [mark - last for (_, last), (epoch, mark) in pairwise(marks) if epoch.score is None]
    spent = spent or [mark - last for (_, last), (_, mark) in pairwise(marks)]
    asked = Ranking(Events.of(split.live, films.rows, ("rate",), DEFAULT_WEIGHTS), split.targets, films.rows, None)
    return float(np.median(spent)), float(ndcgs(asked.ranks(trained.model.tower)).mean())


def theirs(split: Split, epochs: int) -> tuple[float, float]:
    """The same of RecTools."""
    folder = WORK / "sasrec-rival"
    known = np.ones(len(split.live.items), dtype=bool)
    known[split.targets] = False
    files = [_csv(split.train, folder / "train.csv"), _csv(split.live.keep(known), folder / "known.csv")]
    told = folder / "told.json"
    subprocess.run([str(_python()), "-c", RIVAL, *map(str, files), str(epochs), str(told)], check=True)
    found = json.loads(told.read_text())
    owners = split.live.owners[split.targets]
    gains = []
    for owner, target in zip(owners, split.targets, strict=True):
        items = found["lists"].get(split.live.people[int(owner)].as_py(), [])
        wanted = int(split.live.items[target])
        gains.append(1 / np.log2(2 + items.index(wanted)) if wanted in items else 0.0)
    return float(found["epoch"]), float(np.mean(gains))


def _csv(histories: Histories, path: Path) -> Path:
    lines = ["user_id,item_id,weight,datetime"]
    people = histories.people.to_pylist()
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


if __name__ == "__main__":
    main()
