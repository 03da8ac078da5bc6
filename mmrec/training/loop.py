"""The loop: epochs of steps on one or several devices and processes; `mmrec.training.trainer` leads them.

It does not know what is trained on or where results go. Every step seeds torch anew, for each shard of its windows, so
that a run that was interrupted draws the same numbers as one that was not, and two processes the same as one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.training.checkpoint import Average
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import TowerObjective
from mmrec.training.processes import make_accelerator, seed_torch
from mmrec.training.trainer import Epoch, Progress, Trainer
from mmrec.training.windows import Events, Windows, batch_of, batches, cut

__all__ = ["Loop", "accelerator_for"]


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
