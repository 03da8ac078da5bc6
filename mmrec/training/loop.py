"""The loop: epochs of steps on one or several devices and processes, validated, kept, and gone on with.

It does not know what is trained on or where results go. Every step seeds torch anew, for each shard of its windows, so
that a run that was interrupted draws the same numbers as one that was not, and two processes the same as one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast
from jaxtyping import Int64
from torch import Tensor, nn

from mmrec.compute import pick_device
from mmrec.errors import UsageError
from mmrec.training.average import Average
from mmrec.training.checkpoint import read_checkpoint, write_checkpoint
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import Objective
from mmrec.training.windows import Events, Windows, batch_of, batches, cut

__all__ = ["Epoch", "Loop", "accelerator_for"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the curves.

    Attributes:
        epoch: From 1.
        loss: Mean loss of a target.
        ndcg: NDCG@10 of the validation events; None where they were not asked for.
        scale: The inverse temperature.
        seconds: What the epoch took, without validation.

    """

    epoch: int
    loss: float
    ndcg: float | None
    scale: float
    seconds: float


@dataclass(slots=True)
class _Progress:
    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    curve: list[Epoch] = field(default_factory=list)


def accelerator_for(config: TrainingConfig) -> Accelerator:
    """Make what places tensors and joins processes. Raises UsageError where shards and processes do not fit."""
    device = pick_device(config.device)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=config.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if config.shards % accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share {config.shards} shards: set shards to a multiple."
        )
    return accelerator


class Loop:
    """Trains an objective; see `run`."""

    def __init__(
        self,
        objective: Objective,
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
        self.best: dict[str, Tensor] = {}
        self.at = _Progress()
        self._liked = np.concatenate([[0], np.cumsum(events.liked)])

    def run(self, path: Path, fingerprint: str, said: Callable[[Epoch], None]) -> list[Epoch]:
        """Train until validation stops getting better; leave the best weights in the objective.

        Args:
            path: Where the state is kept after each epoch with a validation. If it is there, training goes on from it.
            fingerprint: Of the data and the configuration; a state with another one is not gone on from.
            said: Called with each epoch that is done, once ever.

        Raises UsageError where the state is of something else.

        """
        self._resume(path, fingerprint)
        while self.at.epoch < self.config.epochs and not self._stale():
            done = self._epoch()
            self.at.curve.append(done)
            if done.ndcg is not None and self.accelerator.is_main_process:
                state = {"fingerprint": fingerprint, **asdict(self.at)}
                write_checkpoint(path, self.objective, self._optimizer, self.average, self.best, state)
            said(done)
        with torch.no_grad():
            for name, weight in self.objective.named_parameters():
                weight.copy_(self.best[name])
        return self.at.curve

    def steps(self, epoch: int) -> tuple[Windows, list[Int64[np.ndarray, "_"]]]:
        """The windows of an epoch, and which of them each step takes."""
        random = np.random.default_rng([self.config.seed, epoch])
        windows = cut(self.events.offsets, self.config.tower.window, self.config.every_event, random)
        return windows, batches(windows, self.config.batch, random)

    def step(self, windows: Windows, which: Int64[np.ndarray, "_"]) -> Tensor:
        """Take one step; returns this process's part of the summed loss."""
        self.at.step += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.rate * min(1.0, self.at.step / max(1, self.config.warmup))
        targets = int((self._liked[windows.stops[which] + 1] - self._liked[windows.starts[which] + 1]).sum())
        summed = torch.zeros((), device=self.accelerator.device)
        for shard, last in self._own_shards():
            self._seed(shard)
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
        self.at.epoch += 1
        began = perf_counter()
        self.prepared.train()
        windows, taken = self.steps(self.at.epoch)
        summed = torch.zeros((), device=self.accelerator.device, dtype=torch.float64)
        for which in taken:
            summed += self.step(windows, which)
        total = float(self.accelerator.reduce(summed).item())
        targets = int((self._liked[windows.stops + 1] - self._liked[windows.starts + 1]).sum())
        seconds = perf_counter() - began
        due = self.at.epoch % self.config.evaluate_every == 0 or self.at.epoch == self.config.epochs
        ndcg = self._validated() if due else None
        return Epoch(self.at.epoch, total / max(1, targets), ndcg, float(self.objective.tower.scale.item()), seconds)

    def _validated(self) -> float:
        if self.average is None:
            return self._judged()
        with self.average.applied():
            return self._judged()

    def _judged(self) -> float:
        # All processes stop at the same epoch only if they hear the same number.
        heard = torch.tensor(self.validate(), device=self.accelerator.device)
        ndcg = float(broadcast(heard).item())
        # While nothing is found, or nobody can be asked, the newest weights are the best there are.
        if ndcg > self.at.best or ndcg == 0 == self.at.best:
            self.at.best, self.at.best_epoch = ndcg, self.at.epoch
            self.best = {name: weight.detach().clone() for name, weight in self.objective.named_parameters()}
        return ndcg

    def _stale(self) -> bool:
        return self.at.epoch - self.at.best_epoch >= self.config.patience * self.config.evaluate_every

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
        found.restore(self.objective, self._optimizer, self.average)
        self.best = {name: tensor.to(self.accelerator.device) for name, tensor in found.best().items()}
        self.at = _Progress(**{**state, "curve": [Epoch(**epoch) for epoch in state["curve"]]})

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimiser itself, out of its wrapper."""
        inner: torch.optim.Optimizer = self.optimizer.optimizer
        return inner

    def _own_shards(self) -> Iterator[tuple[int, bool]]:
        """The shards of this process, and whether each is its last."""
        own = range(self.accelerator.process_index, self.config.shards, self.accelerator.num_processes)
        return ((shard, shard == own[-1]) for shard in own)

    def _seed(self, shard: int) -> None:
        words = np.random.SeedSequence([self.config.seed, self.at.step, shard]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]) >> 1)

    @contextmanager
    def _joined(self, last: bool) -> Iterator[None]:
        """Gradients meet those of other processes with the last shard only."""
        if last:
            yield
        else:
            with self.accelerator.no_sync(self.prepared):
                yield


def _groups(objective: Objective, config: TrainingConfig) -> list[dict[str, object]]:
    named = list(objective.named_parameters())
    deltas = [weight for name, weight in named if name.endswith("items.delta")]
    matrices = [weight for name, weight in named if weight.ndim == 2 and not name.endswith("items.delta")]
    others = [weight for _, weight in named if weight.ndim != 2]
    return [
        {"params": matrices, "weight_decay": config.decay},
        {"params": deltas, "weight_decay": config.delta_decay},
        {"params": others, "weight_decay": 0.0},
    ]
