"""Train by epochs: batches, schedule, validation, early stopping, best weights, checkpoints and progress curves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from jaxtyping import Int64
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

from indexers.atomic import atomic_file
from mmrec.errors import UsageError
from mmrec.training.checkpoint import Average, make_accelerator, read_checkpoint, seed_torch, trained, write_checkpoint
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import TowerObjective
from mmrec.training.windows import Events, Windows, batch_of, batches, cut


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the curves.

    Attributes:
        epoch: From 1; 0 is before the first.
        loss: Mean loss.
        score: What validation measured; None where it was not asked for.
        scale: The inverse temperature.
        seconds: What the epoch took, without validation.

    """

    epoch: int
    loss: float
    score: float | None
    scale: float
    seconds: float


@runtime_checkable
class Schedule(Protocol):
    """How long a training goes on; `TrainingConfig` says what these mean."""

    @property
    def epochs(self) -> int:
        """Most epochs."""
        ...

    @property
    def evaluate_every(self) -> int:
        """Epochs between two validations."""
        ...

    @property
    def patience(self) -> int:
        """Validations without a better score after which it ends."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """What a training has to remember beside weights."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """All of it, by name."""
        ...

    def load_state_dict(self, kept: Mapping[str, Tensor]) -> None:
        """Take it back."""
        ...


@dataclass(slots=True)
class Progress:
    """How far a training is."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    curve: list[Epoch] = field(default_factory=list)


class Trainer:
    """Leads a training; see `run`."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        pace: Schedule,
        average: Average | None,
        memory: Stateful | None = None,
    ) -> None:
        self.module, self.optimizer, self.accelerator = module, optimizer, accelerator
        self.pace, self.average, self.memory = pace, average, memory
        self.best: dict[str, Tensor] = {}
        self.at = Progress()

    def run(
        self,
        path: Path,
        fingerprint: str,
        epoch: Callable[[], Epoch],
        judge: Callable[[], float],
        said: Callable[[Epoch], None],
    ) -> list[Epoch]:
        """Train until validation stops getting better; leave the best weights in the module.

        Args:
            path: Where the state is kept after each epoch with a validation. If it is there, training goes on from it.
            fingerprint: Of the data and the configuration; a state with another one is not gone on from.
            epoch: Trains for one, number ``at.epoch``, and returns its point of the curves without a score.
            judge: Validates the weights as they are; higher is better, 0 is the worst.
            said: Called with each epoch that is done, once ever.

        Raises UsageError where the state is of something else.

        """
        self._resume(path, fingerprint)
        while self.at.epoch < self.pace.epochs and not self._stale():
            self.at.epoch += 1
            done = epoch()
            if self.at.epoch % self.pace.evaluate_every == 0 or self.at.epoch == self.pace.epochs:
                done = Epoch(done.epoch, done.loss, self._validated(judge), done.scale, done.seconds)
            self.at.curve.append(done)
            if done.score is not None and self.accelerator.is_main_process:
                state = {"fingerprint": fingerprint, **asdict(self.at)}
                more = {} if self.memory is None else self.memory.state_dict()
                write_checkpoint(
                    path,
                    self.module,
                    self.optimizer,
                    self.average,
                    {**_named(self.best, "best"), **_named(more, "memory")},
                    state,
                )
            said(done)
        with torch.no_grad():
            for name, weight in trained(self.module).items():
                weight.copy_(self.best[name])
        return self.at.curve

    def begin_with(self, score: float) -> None:
        """Hold the weights as they are for the best so far, unless a training is gone on with later."""
        self.at.best, self.best = score, self._weights()

    def _validated(self, judge: Callable[[], float]) -> float:
        if self.average is None:
            return self._judged(judge)
        with self.average.applied():
            return self._judged(judge)

    def _judged(self, judge: Callable[[], float]) -> float:
        # All processes stop at the same epoch only if they hear the same number.
        heard = torch.tensor(judge(), device=self.accelerator.device)
        score = float(broadcast(heard).item())
        # While nothing is found, or nobody can be asked, the newest weights are the best there are.
        if score > self.at.best or score == 0 == self.at.best:
            self.at.best, self.at.best_epoch, self.best = score, self.at.epoch, self._weights()
        return score

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in trained(self.module).items()}

    def _stale(self) -> bool:
        return self.at.epoch - self.at.best_epoch >= self.pace.patience * self.pace.evaluate_every

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
        found.restore(self.module, self.optimizer, self.average)
        self.best = {name: tensor.to(self.accelerator.device) for name, tensor in found.part("best").items()}
        if self.memory is not None:
            self.memory.load_state_dict(found.part("memory"))
        self.at = Progress(**{**state, "curve": [Epoch(**epoch) for epoch in state["curve"]]})


def _named(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}


_NDCG = "NDCG@10"


class Board:
    """Writes each epoch for TensorBoard; a context that closes its file."""

    def __init__(self, folder: Path, score: str = _NDCG) -> None:
        """Take the folder of its files, and the name of what validation measures."""
        self._writer, self._score = SummaryWriter(str(folder)), score

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
        values = {"loss": epoch.loss, "scale": epoch.scale, "seconds": epoch.seconds}
        values |= {} if epoch.score is None else {f"validation/{self._score.lower()}": epoch.score}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.epoch)


def draw_curves(curve: Sequence[Epoch], path: Path, score: str = _NDCG) -> None:
    """Draw the loss, and what validation measures, over epochs into a PNG."""
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
    """Make what places tensors and joins processes. Raises UsageError where shards and processes do not fit."""
    accelerator = make_accelerator(config.device, config.precision)
    if config.shards % accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share {config.shards} shards: set shards to a multiple."
        )
    return accelerator


class Loop:
    """Trains an objective; see `run`."""

    def __init__(
        self,
        objective: TowerObjective,
        events: Events,
        validate: Callable[[], float],
        config: TrainingConfig,
        accelerator: Accelerator,
    ) -> None:
        self.objective, self.events, self.validate = objective, events, validate
        self.config, self.accelerator = config, accelerator
        fused = accelerator.device.type in {"cpu", "cuda"}
        optimizer = torch.optim.AdamW(_groups(objective, config), lr=config.rate, fused=fused)
        self.prepared, self.optimizer = accelerator.prepare(objective, optimizer)
        self.average = Average(objective, config.average) if config.average else None
        inner: torch.optim.Optimizer = self.optimizer.optimizer
        self.course = Trainer(objective, inner, accelerator, config, self.average)
        self._liked = np.concatenate([[0], np.cumsum(events.liked)])

    @property
    def at(self) -> Progress:
        """How far it is."""
        return self.course.at

    def run(self, path: Path, fingerprint: str, said: Callable[[Epoch], None]) -> list[Epoch]:
        """Train until validation stops getting better; see `Course.run`."""
        return self.course.run(path, fingerprint, self._epoch, self.validate, said)

    def steps(self, epoch: int) -> tuple[Windows, list[Int64[np.ndarray, " _"]]]:
        """The windows of an epoch, and which of them each step takes."""
        random = np.random.default_rng([self.config.seed, epoch])
        windows = cut(self.events.offsets, self.config.tower.window, self.config.every_event, random)
        return windows, batches(windows, self.config.batch, random)

    def step(self, windows: Windows, which: Int64[np.ndarray, " _"]) -> Tensor:
        """Take one step; returns this process's part of the summed loss."""
        self.at.step += 1
        for group in self.course.optimizer.param_groups:
            group["lr"] = self.config.rate * min(1.0, self.at.step / max(1, self.config.warmup))
        targets = int((self._liked[windows.stops[which] + 1] - self._liked[windows.starts[which] + 1]).sum())
        summed = torch.zeros((), device=self.accelerator.device)
        for shard, last in self._own_shards():
            seed_torch([self.config.seed, self.at.step, shard])
            batch = batch_of(self.events, windows, which[shard :: self.config.shards]).to(self.accelerator.device)
            with self._joined(last), self.accelerator.autocast():
                loss = self.prepared(batch)
                # Gradients are averaged over the processes, and each target is to count alike.
                self.accelerator.backward(loss * (self.accelerator.num_processes / max(1, targets)))
            summed += loss.detach()
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.at.step)
        return summed

    def _epoch(self) -> Epoch:
        began = perf_counter()
        self.prepared.train()
        windows, taken = self.steps(self.at.epoch)
        summed = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        for which in taken:
            summed += self.step(windows, which)
        total = float(self.accelerator.reduce(summed).item())
        targets = int((self._liked[windows.stops + 1] - self._liked[windows.starts + 1]).sum())
        seconds = perf_counter() - began
        return Epoch(self.at.epoch, total / max(1, targets), None, float(self.objective.tower.scale.item()), seconds)

    def _own_shards(self) -> Iterator[tuple[int, bool]]:
        """The shards of this process, and whether each is its last."""
        own = range(self.accelerator.process_index, self.config.shards, self.accelerator.num_processes)
        return ((shard, shard == own[-1]) for shard in own)

    @contextmanager
    def _joined(self, last: bool) -> Iterator[None]:
        """Gradients meet those of other processes with the last shard only."""
        if last:
            yield
        else:
            with self.accelerator.no_sync(self.prepared):
                yield


def _groups(objective: TowerObjective, config: TrainingConfig) -> list[dict[str, object]]:
    named = list(objective.named_parameters())
    deltas = [weight for name, weight in named if name.endswith("items.delta")]
    matrices = [weight for name, weight in named if weight.ndim == 2 and not name.endswith("items.delta")]
    others = [weight for _, weight in named if weight.ndim != 2]
    return [
        {"params": matrices, "weight_decay": config.decay},
        {"params": deltas, "weight_decay": config.delta_decay},
        {"params": others, "weight_decay": 0.0},
    ]
