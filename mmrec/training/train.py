"""Training, from histories and contents to a model of people.

    trained = train(split, contents, rows, config, folder)
    trained.model        # a TowerModel, which is a mmrec.users.model.UserModel
    trained.report       # epochs, the best one, NDCG@10 on validation, the curve

`split` is a Split or all Histories there are; `contents` are fused content vectors and `rows` the row number of each,
in any order, of all items that the histories name and of any others. The folder gets ``tower.safetensors`` and
``tower.json`` (see `mmrec.users.tower_files`), ``curves.png``, ``tensorboard/``, and ``checkpoint.safetensors``, from
which the same call goes on if it was interrupted. Under ``torchrun`` or ``accelerate launch`` every process makes this
call; all return the same, and one writes. `estimate` (in `mmrec.training.estimate`) says what it will cost.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32, Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.kinds import DEFAULT_WEIGHTS
from mmrec.behaviour.splits import Split
from mmrec.errors import UsageError
from mmrec.training.config import TrainingConfig
from mmrec.training.course import Epoch
from mmrec.training.curves import Board, draw_curves
from mmrec.training.loop import Loop, accelerator_for
from mmrec.training.objective import Objective
from mmrec.training.ranking import Ranking
from mmrec.training.ranks import mean_ndcg
from mmrec.training.task import Task, task_of
from mmrec.training.windows import Events
from mmrec.users.tower import Tower
from mmrec.users.tower_files import save_tower
from mmrec.users.tower_model import TowerModel
from mmrec.users.whitening import fit_whitening

__all__ = ["CHECKPOINT", "Report", "Trained", "prepare", "train"]

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Report:
    """How a training went.

    Attributes:
        curve: Each epoch.
        best_epoch: The one whose weights are kept.
        ndcg: Its NDCG@10 on validation.
        items: Items that training knew.
        people: People it learned from.
        events: Their events.

    """

    curve: tuple[Epoch, ...]
    best_epoch: int
    ndcg: float
    items: int
    people: int
    events: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it."""

    model: TowerModel
    report: Report


def train(
    data: Split | Histories,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    folder: Path,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    said: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train a tower, or go on with a training that was interrupted.

    Args:
        data: What may be learned from. Validation events are those of the split, or else each person's last one.
        contents: Fused content vectors.
        rows: Row number of each.
        config: Sizes and settings.
        folder: Where results are kept; made if it is not there.
        weights: Weight of each kind of event; those at 0 or below are looked at, but are not to be predicted.
        said: Called with each epoch that is done.

    Raises:
        UsageError: There is nothing to learn from, an item has no content, or the folder holds another training.

    """
    task = task_of(data, weights, config.validation_people, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_for(config)
    with torch.random.fork_rng(enabled=True):
        loop = prepare(task, contents, rows, config, accelerator, weights)
        with Board(folder / "tensorboard") if accelerator.is_main_process else nullcontext() as board:

            def heard(epoch: Epoch) -> None:
                if board is not None:
                    board.add(epoch)
                if said is not None:
                    said(epoch)

            curve = loop.run(folder / CHECKPOINT, _fingerprint(task, contents, rows, config), heard)
    model = TowerModel(loop.objective.tower.eval().cpu())
    if accelerator.is_main_process:
        save_tower(model, folder)
        draw_curves(curve, folder / "curves.png")
    accelerator.wait_for_everyone()
    known, lengths, at = len(model.tower.items.rows), task.train.lengths, loop.at
    return Trained(model, Report(tuple(curve), at.best_epoch, at.best, known, len(lengths), int(lengths.sum())))


def prepare(
    task: Task,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    accelerator: Accelerator,
    weights: Mapping[str, float],
) -> Loop:
    """Make everything that a training needs, at its beginning. Raises UsageError."""
    order = np.argsort(rows, kind="stable")
    rows, contents = rows[order], contents[order]
    _check_items(task, rows)
    kinds = config.tower.kinds or task.train.kind_names
    ratings = config.tower.ratings or task.train.strengths is not None
    sizes = config.tower.model_copy(update={"kinds": kinds, "ratings": ratings})
    known, counts = np.unique(task.train.items, return_counts=True)
    torch.manual_seed(config.seed)
    own = contents[np.searchsorted(rows, known)]
    tower = Tower(sizes, torch.from_numpy(known), fit_whitening(own, sizes.white) if sizes.content else None)
    white = tower.items.whiten(torch.from_numpy(own)) if sizes.content else None
    objective = Objective(tower, white, torch.from_numpy(counts), config)
    asked = Ranking(
        Events.of(task.live, rows, kinds, weights),
        task.validation,
        rows,
        torch.from_numpy(contents) if sizes.content else None,
    )
    learned = Events.of(task.train, known, kinds, weights)
    return Loop(objective, learned, lambda: mean_ndcg(asked.ranks(tower)), config, accelerator)


def _check_items(task: Task, rows: Int64[np.ndarray, " items"]) -> None:
    if (rows[1:] == rows[:-1]).any():
        raise UsageError("Two items have one row number; each item may be given once.")
    missing = np.setdiff1d(np.concatenate([task.train.items, task.live.items]), rows)
    if len(missing):
        raise UsageError(
            f"{len(missing)} items of the histories have no content, among them row {missing[0]}: clean the events "
            "with the items that the generation holds."
        )


def _fingerprint(
    task: Task,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
) -> str:
    """Everything that decides each step; how long to go on does not."""
    seen = sha256(config.model_dump_json(exclude={"epochs", "patience", "device"}).encode())
    seen.update((task.train.digest() + task.live.digest()).encode())
    for array in (task.validation, rows, contents):
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
