"""Estimate the memory and time of a training by a few steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from mmrec.events.histories import Histories
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import Split
from mmrec.training.checkpoint import seconds_for
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import loss_name
from mmrec.training.train import make_trainer, make_training_task
from mmrec.training.trainer import accelerator_for
from mmrec.training.windows import Windows

# Weights, gradients, the optimiser's two moments, the running mean and the best so far.
_COPIES = 6
# Scores, their odds and the gradient of these.
_SCORES = 3
# Numbers that a block keeps for its gradient, in widths of the Transformer, besides its inner layer and attention.
_KEPT = 12


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """Sizes, memory and time of a training.

    Items, users and events are those of training. `memory` is in bytes: the weights with gradients, moments and copies,
    the contents, and the largest step. The time of an epoch is without validation, by the duration of a few steps; that
    of all epochs is without early stopping.
    """

    items: int
    users: int
    events: int
    validation: int
    parameters: int
    loss: str
    steps: int
    memory: int
    epoch_seconds: float
    most_seconds: float


def estimate(
    data: Split | Histories,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
) -> TrainingEstimate:
    """Run a few steps and discard them. Arguments and errors are those of `mmrec.training.train.train`."""
    task = make_training_task(data, weights, config.validation_users, config.seed)
    with torch.random.fork_rng():
        trainer = make_trainer(task, contents, rows, config, accelerator_for(config), weights)
        windows, taken = trainer.steps(1)
        sizes = [_padded(windows, which) for which in taken]
        seconds = seconds_for(
            sum(map(math.prod, sizes)),
            taken,
            lambda which: math.prod(_padded(windows, which)),
            lambda which: trainer.step(windows, which).item(),
        )
    objective, known = trainer.objective, len(trainer.objective.tower.items.rows)
    parameters = sum(weight.numel() for weight in objective.parameters())
    memory = 4 * _COPIES * parameters + contents.nbytes
    memory += 0 if objective.white is None else 4 * objective.white.numel()
    return TrainingEstimate(
        items=known,
        users=len(task.train),
        events=len(task.train.items),
        validation=len(task.validation),
        parameters=parameters,
        loss=loss_name(config, known),
        steps=len(taken),
        memory=memory + max(_step_bytes(config, known, size) for size in sizes),
        epoch_seconds=seconds,
        most_seconds=seconds * config.epochs,
    )


def _padded(windows: Windows, which: Int64[np.ndarray, " _"]) -> tuple[int, int]:
    return len(which), int((windows.stops[which] - windows.starts[which]).max())


def _step_bytes(config: TrainingConfig, items: int, size: tuple[int, int]) -> int:
    """Memory of one shard of a step, in float32."""
    tower, (windows, length) = config.tower, size
    windows = -(-windows // config.shards)
    compared = items if loss_name(config, items) == "full" else config.negatives
    scores = _SCORES * tower.interests * windows * length * compared
    attention = 2 * tower.layers * windows * tower.heads * length * length
    states = windows * length * tower.layers * (_KEPT * tower.width + 3 * tower.inner)
    return 4 * (scores + attention + states)
