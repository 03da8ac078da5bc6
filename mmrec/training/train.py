"""Train a user tower on histories and item contents, validated by full ranking of the catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.events.histories import Histories
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import Split
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import TowerObjective
from mmrec.training.trainer import Epoch, TowerTrainer, accelerator_for, draw_curves, tensorboard_log
from mmrec.training.validation import ValidationRanking
from mmrec.training.windows import TowerEvents
from mmrec.users.networks import fit_whitening
from mmrec.users.tower import Tower, TowerModel, save_tower


@dataclass(frozen=True, slots=True, eq=False)
class TrainingTask:
    """Histories to train on, histories with the held-out events in them, and the places of these, ascending."""

    train: Histories
    live: Histories
    validation: Int64[np.ndarray, " n"]


def make_training_task(data: Split | Histories, weights: Mapping[str, float], most: int, seed: int) -> TrainingTask:
    """Make a task of a split with validation events, or else hold out each user's last positive event.

    At most `most` users, drawn by the seed, are in the validation. Of a split, only training events are held out: the
    time split has no validation events of its own. Raises UsageError where there is nothing to train on.
    """
    if isinstance(data, Split) and len(data.validation):
        task = TrainingTask(data.train, data.live, data.validation)
    else:
        histories = data.train if isinstance(data, Split) else data
        task = _held_out(histories, weights)
    if not len(task.train.items) or (task.train.lengths < 2).all():
        raise UsageError("There is nothing to learn from: nobody has two events. Import more of them.")
    if len(task.validation) > most:
        drawn = np.random.default_rng([seed, most]).choice(task.validation, most, replace=False)
        task = TrainingTask(task.train, task.live, np.sort(drawn))
    return task


def _held_out(histories: Histories, weights: Mapping[str, float]) -> TrainingTask:
    places = np.flatnonzero(histories.weights(weights, 1.0) > 0)
    owners = histories.owners[places]
    newest = np.append(owners[1:] != owners[:-1], np.ones(min(1, len(owners)), dtype=bool))
    newest &= places - histories.offsets[owners] >= 2
    held = places[newest]
    first_held = histories.offsets[1:].copy()
    first_held[histories.owners[held]] = held
    before = np.arange(len(histories.items)) < first_held[histories.owners]
    return TrainingTask(histories.keep(before), histories, held)


CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """Result of a training: its curve, the epoch whose weights are saved, with NDCG@10, and the sizes of its data."""

    curve: tuple[Epoch, ...]
    best_epoch: int
    ndcg: float
    items: int
    users: int
    events: int


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The trained model, and the report."""

    model: TowerModel
    report: TrainingReport


def train(
    data: Split | Histories,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    folder: Path,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainingResult:
    """Train a tower, or resume an interrupted training.

    Validation events are those of the split, or else each user's last one. Kinds of events with a weight of 0 or below
    are inputs, but never targets. Results are saved in the folder, which is made if it is not there.

    Args:
        data: Training events.
        contents: Fused content vectors.
        rows: Row number of each.
        config: Sizes and settings.
        folder: Where results are saved.
        weights: Weight of each kind of event.
        on_epoch: Called after each epoch.

    Raises UsageError where there is nothing to train on, an item has no content, or the folder holds another training.

    """
    task = make_training_task(data, weights, config.validation_users, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_for(config)
    with torch.random.fork_rng(enabled=True):
        trainer = make_trainer(task, contents, rows, config, accelerator, weights)
        with tensorboard_log(folder / "tensorboard", on_epoch, enabled=accelerator.is_main_process) as log:
            curve = trainer.run(folder / CHECKPOINT, _fingerprint(task, contents, rows, config), log)
    model = TowerModel(trainer.objective.tower.eval().cpu())
    if accelerator.is_main_process:
        save_tower(model, folder)
        draw_curves(curve, folder / "curves.png")
    accelerator.wait_for_everyone()
    known, lengths, at = len(model.tower.items.rows), task.train.lengths, trainer.progress
    report = TrainingReport(tuple(curve), at.best_epoch, at.best, known, len(lengths), int(lengths.sum()))
    return TrainingResult(model, report)


def make_trainer(
    task: TrainingTask,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    accelerator: Accelerator,
    weights: Mapping[str, float],
) -> TowerTrainer:
    """Make the network and the trainer of a task. Raises UsageError."""
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
    objective = TowerObjective(tower, white, torch.from_numpy(counts), config)
    inputs = torch.from_numpy(contents) if sizes.content else None
    ranking = ValidationRanking(TowerEvents.of(task.live, rows, kinds, weights), task.validation, rows, inputs)
    return TowerTrainer(objective, TowerEvents.of(task.train, known, kinds, weights), ranking, config, accelerator)


def _check_items(task: TrainingTask, rows: Int64[np.ndarray, " items"]) -> None:
    if (rows[1:] == rows[:-1]).any():
        raise UsageError("Two items have one row number; each item may be given once.")
    missing = np.setdiff1d(np.concatenate([task.train.items, task.live.items]), rows)
    if len(missing):
        raise UsageError(
            f"{len(missing)} items of the histories have no content, among them row {missing[0]}: clean the events "
            "with the items that the generation holds."
        )


def _fingerprint(
    task: TrainingTask,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
) -> str:
    """Of everything that decides each step; the number of epochs does not."""
    seen = sha256(config.model_dump_json(exclude={"epochs", "patience", "device"}).encode())
    seen.update((task.train.digest() + task.live.digest()).encode())
    for array in (task.validation, rows, contents):
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
