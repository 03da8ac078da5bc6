"""SASRec beside that of RecTools: ``python -m benchmarks.sasrec_rival``; ``--quick`` is four epochs, to time them.

The same events of ml-100k (leave-one-out), the same sizes (64 dimensions, 100 events, 2 blocks, 2 heads, dropout .3,
full softmax, AdamW without decay against Adam at 2e-3, 32 people a batch), one thread each, the newest 100 events of
each person an epoch, nothing but their order. Both are trained in one run, four epochs here and four there, and both
are validated after each turn by NDCG@10 of the last event but one: the epoch that is best at that is the one whose
NDCG@10 on the last event is told. Every list is of all films that the person had not met. Seconds are those of the
processor for an epoch alone, without setting up and validation. RecTools is installed at first use.
"""

from time import process_time

import numpy as np
import torch

from benchmarks.movielens_data import MovieLens
from benchmarks.movielens_statistics import interval, ndcgs
from benchmarks.report import WORK, arguments, show
from benchmarks.sasrec_rectools import RecTools
from mmrec.compute import keep_freed_memory
from mmrec.events.histories import Histories
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import Split
from mmrec.training.config import TrainingConfig
from mmrec.training.train import train
from mmrec.training.trainer import Epoch
from mmrec.training.validation import ValidationRanking
from mmrec.training.windows import TowerEvents
from mmrec.users.tower_config import TowerConfig

FOLDER = WORK / "sasrec-rival"
TURN = 4


class Match:
    """The two trainings, turn by turn; heard after each epoch of the one here."""

    def __init__(self, rival: RecTools, split: Split) -> None:
        self._rival, self._split = rival, split
        self._began = process_time()
        self.own_seconds: list[float] = []
        self.ratios: list[float] = []
        self.rival_seconds: list[float] = []
        self.validations: list[float] = []
        self.tests: list[np.ndarray] = []

    def heard(self, epoch: Epoch) -> None:
        """Take the time of an epoch here; after a turn, let RecTools have its own."""
        # An epoch that ends with a validation is not timed: the two cannot be told apart from here.
        if epoch.score is None:
            self.own_seconds.append(process_time() - self._began)
        if epoch.epoch % TURN == 0:
            turn = self._rival.train(TURN)
            self.rival_seconds += turn.seconds
            self.ratios.append(float(np.median(turn.seconds) / np.median(self.own_seconds[1 - TURN :])))
            self.validations.append(float(self._gains(turn.validation, self._split.validation).mean()))
            self.tests.append(self._gains(turn.test, self._split.targets))
            print(
                f"epoch {epoch.epoch}: validation {epoch.score or 0:.4f}, RecTools {self.validations[-1]:.4f}; "
                f"{self.ratios[-1]:.2f} times as fast",
                flush=True,
            )
        self._began = process_time()

    def _gains(self, lists: dict[str, list[int]], targets: np.ndarray) -> np.ndarray:
        live = self._split.live
        gains = np.zeros(len(targets))
        for place, target in enumerate(targets.tolist()):
            items = lists.get(live.user_ids[int(live.owners[target])].as_py(), [])
            wanted = int(live.items[target])
            gains[place] = 1 / np.log2(2 + items.index(wanted)) if wanted in items else 0.0
        return gains


def main() -> None:
    """Measure and print."""
    quick = arguments(__doc__ or "").quick
    epochs = TURN if quick else 100
    torch.set_num_threads(1)
    keep_freed_memory()
    films = MovieLens()
    split = films.split("loo")
    known = np.ones(len(split.live.items), dtype=bool)
    known[split.targets] = False
    with RecTools(split.train, split.live.keep(known), FOLDER) as rival:
        match = Match(rival, split)
        own, best = ours(films, split, epochs, match)
    report(match, own, best, split.live, split.targets, quick=quick)


def ours(films: MovieLens, split: Split, epochs: int, match: Match) -> tuple[np.ndarray, int]:
    """NDCG@10 of each test event, and the epoch that was best at validation."""
    tower = TowerConfig(content=False, inner=64, ask_time=False, spans=False)
    config = TrainingConfig(
        tower=tower, every_event=False, device="cpu", epochs=epochs, evaluate_every=TURN, max_age_seconds=100
    )
    # A training that goes on where it was interrupted would have had no rival.
    (FOLDER / "checkpoint.safetensors").unlink(missing_ok=True)
    trained = train(split, films.contents, films.rows, config, FOLDER, on_epoch=match.heard)
    asked = ValidationRanking(
        TowerEvents.of(split.live, films.rows, ("rate",), DEFAULT_WEIGHTS), split.targets, films.rows, None
    )
    return ndcgs(asked.ranks(trained.model.tower)), trained.report.best_epoch


def report(match: Match, own: np.ndarray, best: int, live: Histories, targets: np.ndarray, *, quick: bool) -> None:
    """Print both beside each other."""
    turn = int(np.argmax(match.validations))
    their = match.tests[turn]
    ahead = interval(own - their, live.owners[targets])
    rows = [
        ("", "CPU s an epoch", "best epoch", "NDCG@10"),
        ("here", float(np.median(match.own_seconds)), best, f"{own.mean():.4f}"),
        ("RecTools", float(np.median(match.rival_seconds)), TURN * (turn + 1), f"{their.mean():.4f}"),
        ("difference, 95%", "", "", f"{ahead.low:+.4f} to {ahead.high:+.4f}"),
    ]
    low, middle, high = np.quantile(match.ratios, [0.1, 0.5, 0.9])
    print(f"\nTimes as fast, turn by turn: {middle:.2f} (a tenth below {low:.2f}, a tenth above {high:.2f})")
    figures = {"sasrec_times_as_fast": float(middle)}
    if not quick:
        figures |= {"sasrec_ndcg10": float(own.mean()), "rectools_ndcg10": float(their.mean())}
        figures |= {"sasrec_minus_rectools_low": ahead.low}
    show(f"SASRec, {TURN * len(match.tests)} epochs" + (", too few to judge by" if quick else ""), rows, figures)


if __name__ == "__main__":
    main()
