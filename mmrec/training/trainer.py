"""Train by epochs: batches, schedule, validation, early stopping, best weights, checkpoints and progress curves."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import broadcast
from jaxtyping import Int64
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard.writer import SummaryWriter

from indexers.atomic import atomic_file
from mmrec.errors import UsageError
from mmrec.evaluation.metrics import discounted_gain
from mmrec.training.checkpoint import (
    WeightAverage,
    make_accelerator,
    read_checkpoint,
    seed_torch,
    trainable_parameters,
    write_checkpoint,
)
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import TowerObjective
from mmrec.training.validation import ValidationRanking
from mmrec.training.windows import TowerEvents, Windows, batch_of, batches, cut_windows


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean loss, inverse temperature and duration without validation of one epoch, from 1; 0 is before the first.

    The score is the validation metric, None without a validation.
    """

    epoch: int
    loss: float
    score: float | None
    scale: float
    seconds: float

    def describe(self, metric: str) -> str:
        """Describe an epoch with a validation in a line, by the name of its metric."""
        loss = f"loss {self.loss:.4f}, " if self.epoch else ""
        return f"epoch {self.epoch}: {loss}{metric} {self.score:.4f}, {self.seconds:.1f} s"


@runtime_checkable
class LoopConfig(Protocol):
    """Settings that all trainings have; see `TrainingConfig`."""

    epochs: int
    evaluate_every: int
    patience: int
    clip: float
    average: float


@dataclass(slots=True)
class Progress:
    """Counters, best score and curve of a training."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    curve: list[Epoch] = field(default_factory=list)


class Trainer(ABC):
    """Runs epochs with validation, early stopping, best weights and checkpoints; see `run`.

    Subclasses train for an epoch, number ``progress.epoch``, and score the weights.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: AcceleratedOptimizer,
        accelerator: Accelerator,
        config: LoopConfig,
        extra: MutableMapping[str, Tensor] | None = None,
    ) -> None:
        """Prepare a training; `extra` is what checkpoints hold beside weights and moments, by name."""
        self.module, self.optimizer, self.accelerator, self.config = module, optimizer, accelerator, config
        self.average = WeightAverage(module, config.average) if config.average else None
        self.extra = {} if extra is None else extra
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()

    @abstractmethod
    def train_epoch(self) -> Epoch:
        """Train for one epoch. Returns its metrics without a score."""

    @abstractmethod
    def validate(self) -> float:
        """Score the weights as they are; higher is better, 0 is the worst."""

    def run(self, path: Path, fingerprint: str, on_epoch: Callable[[Epoch], None]) -> list[Epoch]:
        """Train until validation stops improving; leave the best weights in the module. Returns the curve.

        Args:
            path: Checkpoint after each epoch with a validation. Where it exists, training resumes from it.
            fingerprint: Of the data and the configuration.
            on_epoch: Called after each epoch; never twice for one, even after resuming.

        Raises UsageError where the checkpoint has another fingerprint.

        """
        self._resume(path, fingerprint)
        at, config = self.progress, self.config
        while at.epoch < config.epochs and at.epoch - at.best_epoch < config.patience * config.evaluate_every:
            at.epoch += 1
            done = self.train_epoch()
            if at.epoch % config.evaluate_every == 0 or at.epoch == config.epochs:
                with nullcontext() if self.average is None else self.average.applied():
                    done = replace(done, score=self._validated())
            at.curve.append(done)
            if done.score is not None and self.accelerator.is_main_process:
                more = {f"best.{name}": tensor for name, tensor in self.best.items()}
                more |= {f"extra.{name}": tensor for name, tensor in self.extra.items()}
                state = {"fingerprint": fingerprint, **asdict(at)}
                write_checkpoint(path, self.module, self.optimizer.optimizer, self.average, more, state)
            on_epoch(done)
        with torch.no_grad():
            for name, weight in trainable_parameters(self.module).items():
                weight.copy_(self.best[name])
        return at.curve

    def keep_weights(self, score: float) -> None:
        """Count the weights as they are as the best so far."""
        self.progress.best, self.progress.best_epoch = score, self.progress.epoch
        self.best = {name: weight.detach().clone() for name, weight in trainable_parameters(self.module).items()}

    def apply_gradients(self) -> None:
        """Take the optimiser's step with the gradients, cut to the configured norm, and average the weights."""
        nn.utils.clip_grad_norm_(trainable_parameters(self.module).values(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()

    def _validated(self) -> float:
        # All processes stop at the same epoch only if they have the same number.
        score = float(broadcast(torch.tensor(self.validate(), device=self.accelerator.device)).item())
        # While nothing is found, or there are no validation events, the newest weights are the best there are.
        if score > self.progress.best or (score == 0 and self.progress.best == 0):
            self.keep_weights(score)
        return score

    def _resume(self, path: Path, fingerprint: str) -> None:
        found = read_checkpoint(path)
        if found is None:
            return
        state = dict(found.state)
        if state.pop("fingerprint") != fingerprint:
            raise UsageError(
                f"{path} is of a training on other data or with another configuration. Give the configuration and the "
                "data that it was begun with, or another folder, or delete it."
            )
        found.restore(self.module, self.optimizer.optimizer, self.average)
        self.best = {name: tensor.to(self.accelerator.device) for name, tensor in found.part("best").items()}
        self.extra.update(found.part("extra"))
        self.progress = Progress(**{**state, "curve": [Epoch(**epoch) for epoch in state["curve"]]})
        if self.average is not None:
            self.average.resume(self.progress.step)


_NDCG: Final = "NDCG@10"


@contextmanager
def tensorboard_log(
    folder: Path, on_epoch: Callable[[Epoch], None] | None, score: str = _NDCG, *, enabled: bool = True
) -> Iterator[Callable[[Epoch], None]]:
    """Give a callback that writes each epoch for TensorBoard, where enabled, and passes it on to another callback."""
    with closing(SummaryWriter(str(folder))) if enabled else nullcontext() as writer:

        def write(epoch: Epoch) -> None:
            values = {"loss": epoch.loss, "scale": epoch.scale, "seconds": epoch.seconds}
            values |= {} if epoch.score is None else {f"validation/{score.lower()}": epoch.score}
            if writer is not None:
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch.epoch)
            if on_epoch is not None:
                on_epoch(epoch)

        yield write


def draw_curves(curve: Sequence[Epoch], path: Path, score: str = _NDCG) -> None:
    """Draw the loss and the validation metric over epochs into a PNG."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.add_subplot()
    left.plot([point.epoch for point in curve], [point.loss for point in curve], color="tab:blue")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:blue")
    judged = [(point.epoch, point.score) for point in curve if point.score is not None]
    right = left.twinx()
    right.plot([epoch for epoch, _ in judged], [found for _, found in judged], color="tab:orange", marker=".")
    right.set_ylabel(f"validation {score}", color="tab:orange")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def accelerator_for(config: TrainingConfig) -> Accelerator:
    """Make the accelerator of a training. Raises UsageError where shards and processes do not fit."""
    accelerator = make_accelerator(config.device, config.precision)
    if config.shards % accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share {config.shards} shards: set shards to a multiple."
        )
    return accelerator


class TowerTrainer(Trainer):
    """Trains a user tower: batches of windows, shards over processes, warm-up of the learning rate."""

    config: TrainingConfig

    def __init__(
        self,
        objective: TowerObjective,
        events: TowerEvents,
        ranking: ValidationRanking,
        config: TrainingConfig,
        accelerator: Accelerator,
    ) -> None:
        fused = accelerator.device.type in {"cpu", "cuda"}
        optimizer = torch.optim.AdamW(_groups(objective, config), lr=config.rate, fused=fused)
        self.prepared, optimizer = accelerator.prepare(objective, optimizer)
        super().__init__(objective, optimizer, accelerator, config)
        self.objective, self.events, self.ranking = objective, events, ranking
        self._liked = np.concatenate([[0], np.cumsum(events.liked)])

    @cached_property
    def warmup(self) -> LambdaLR:
        """Linear warm-up of the learning rate; made at the first step, when a checkpoint was restored."""
        steps = max(1, self.config.warmup)
        return LambdaLR(self.optimizer.optimizer, lambda step: min(1.0, (step + 1) / steps), self.progress.step - 1)

    def validate(self) -> float:
        """NDCG@10 of the held-out events."""
        ranks = self.ranking.ranks(self.objective.tower)
        return float(discounted_gain(ranks, 10).mean()) if len(ranks) else 0.0

    def steps(self, epoch: int) -> tuple[Windows, list[Int64[np.ndarray, " _"]]]:
        """The windows of an epoch, and which of them are the batch of each step."""
        random = np.random.default_rng([self.config.seed, epoch])
        windows = cut_windows(self.events.offsets, self.config.tower.window, self.config.every_event, random)
        return windows, batches(windows, self.config.batch, random)

    def step(self, windows: Windows, which: Int64[np.ndarray, " _"]) -> Tensor:
        """Take one step; returns this process's part of the summed loss."""
        warmup, config = self.warmup, self.config
        self.progress.step += 1
        targets = int((self._liked[windows.stops[which] + 1] - self._liked[windows.starts[which] + 1]).sum())
        summed = torch.zeros((), device=self.accelerator.device)
        own = range(self.accelerator.process_index, config.shards, self.accelerator.num_processes)
        for shard in own:
            seed_torch([config.seed, self.progress.step, shard])
            batch = batch_of(self.events, windows, which[shard :: config.shards]).to(self.accelerator.device)
            # Gradients are exchanged between processes with the last shard only.
            alone = nullcontext() if shard == own[-1] else self.accelerator.no_sync(self.prepared)
            with alone, self.accelerator.autocast():
                loss = self.prepared(batch)
                # Gradients are averaged over the processes, and each target is to count alike.
                self.accelerator.backward(loss * (self.accelerator.num_processes / max(1, targets)))
            summed += loss.detach()
        self.apply_gradients()
        warmup.step()
        return summed

    def train_epoch(self) -> Epoch:
        """Take a step for each batch of windows."""
        began, number = perf_counter(), self.progress.epoch
        self.prepared.train()
        windows, taken = self.steps(number)
        summed = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        for which in taken:
            summed += self.step(windows, which)
        total = float(self.accelerator.reduce(summed).item())
        targets = int((self._liked[windows.stops + 1] - self._liked[windows.starts + 1]).sum())
        scale = float(self.objective.tower.scale.item())
        return Epoch(number, total / max(1, targets), None, scale, perf_counter() - began)


def _groups(objective: TowerObjective, config: TrainingConfig) -> list[dict[str, object]]:
    """Groups of weights with their weight decay; the first learning rate is what `LambdaLR` multiplies."""
    named = list(objective.named_parameters())
    deltas = [weight for name, weight in named if name.endswith("items.delta")]
    matrices = [weight for name, weight in named if weight.ndim == 2 and not name.endswith("items.delta")]
    others = [weight for _, weight in named if weight.ndim != 2]
    groups = ((matrices, config.decay), (deltas, config.delta_decay), (others, 0.0))
    return [{"params": some, "weight_decay": decay, "initial_lr": config.rate} for some, decay in groups]
