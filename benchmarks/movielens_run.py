"""One training of the benchmark, and the ranks of its targets: ``python -m benchmarks.movielens_run loo content 0``.

The result is a file of its own, named after everything that decides it, so that an interrupted benchmark goes on.
"""

import json
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from benchmarks.movielens_data import MovieLens
from benchmarks.movielens_models import config_of
from benchmarks.report import WORK
from mmrec.compute import keep_freed_memory
from mmrec.events.histories import Histories
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import Split
from mmrec.training.train import TrainingResult, train
from mmrec.training.validation import ValidationRanking
from mmrec.training.windows import TowerEvents

__all__ = ["Run", "reduced"]

VERSION = 1
"""Part of each result's name, with the settings that are not the defaults: raised when either changes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training: on which split, of which model, with which seed."""

    split: str
    model: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        settings = f"{VERSION} {config_of(self.model, self.seed).model_dump_json(exclude_defaults=True)}"
        name = f"{self.split}-{self.model.replace(':', '_')}-{self.seed}-{sha256(settings.encode()).hexdigest()[:10]}"
        return WORK / "movielens" / "runs" / f"{name}.json"

    def result(self) -> dict[str, object] | None:
        """What came out; None where it has not been run."""
        return json.loads(self.path.read_text()) if self.path.exists() else None


def main() -> None:
    """Train, rank, and write the result."""
    run = Run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    films = MovieLens()
    split = reduced(films.split(run.split, run.seed))
    folder = run.path.with_suffix("")
    trained = train(split, films.contents, films.rows, config_of(run.model, run.seed), folder, on_epoch=print)
    report = trained.report
    result = {
        "ranks": _ranks(trained, split, films),
        "best_epoch": report.best_epoch,
        "epochs": len(report.curve),
        "validation_ndcg": report.ndcg,
        "epoch_seconds": float(np.median([epoch.seconds for epoch in report.curve])),
        "losses": [epoch.loss for epoch in report.curve],
        "ndcgs": [epoch.score for epoch in report.curve],
    }
    beside = run.path.with_suffix(".tmp")
    beside.write_text(json.dumps(result))
    beside.replace(run.path)


def reduced(split: Split) -> Split:
    """Take cold films out of all histories and of validation, so that they are met as targets alone.

    A model without content could make nothing of them.
    """
    if split.cold_rows is None:
        return split
    cold = np.isin(split.live.items, split.cold_rows)
    kept = ~cold
    kept[split.targets] = True
    live: Histories = split.live.keep(kept)
    places = np.cumsum(kept) - 1
    validation = split.validation[~cold[split.validation]]
    return Split(split.train, live, places[split.targets], places[validation], cold_rows=split.cold_rows)


def _ranks(trained: TrainingResult, split: Split, films: MovieLens) -> dict[str, list[float | None]]:
    """Ranks of all targets in the full catalog; where films are cold, also among the cold or the warm ones alone."""
    tower = trained.model.tower
    events = TowerEvents.of(split.live, films.rows, tower.config.kinds, DEFAULT_WEIGHTS)
    contents = torch.from_numpy(films.contents) if tower.config.content else None
    found = {"full": ValidationRanking(events, split.targets, films.rows, contents).ranks(tower)}
    if split.cold_rows is not None:
        cold = np.isin(films.rows, split.cold_rows)
        asked = cold[events.items[split.targets]]
        among = np.empty(len(asked))
        for side in (True, False):
            targets = split.targets[asked == side]
            among[asked == side] = ValidationRanking(events, targets, films.rows, contents, cold == side).ranks(tower)
        found["alike"] = among
    return {name: [None if np.isinf(rank) else rank for rank in ranks] for name, ranks in found.items()}


if __name__ == "__main__":
    main()
