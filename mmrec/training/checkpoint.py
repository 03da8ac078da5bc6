"""Checkpoints and processes of a training: average of the weights, accelerator, seeds by step, time per step."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from indexers.atomic import atomic_path
from mmrec.compute import pick_device
from mmrec.errors import UsageError

_SETTLING: Final = 10


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that ask for gradients, by name, each once."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


class WeightAverage:
    """Exponential moving average of a module's trained weights (Polyak and Juditsky, 1992)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the weights as they are; the first steps, which are far off, are forgotten faster."""

        @torch.no_grad()
        def lerp(means: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
            torch._foreach_lerp_(list(means), list(weights), 1 - min(decay, int(steps) / (int(steps) + _SETTLING)))

        self._names, self._weights = (
            list(trainable_parameters(module)),
            nn.ParameterList(trainable_parameters(module).values()),
        )
        self._model = AveragedModel(self._weights, multi_avg_fn=lerp)
        self.resume(0)

    @property
    def means(self) -> dict[str, Tensor]:
        """The averages, by name."""
        return dict(zip(self._names, self._model.module.parameters(), strict=True))

    def resume(self, steps: int) -> None:
        """Go on after so many steps."""
        self._model.n_averaged.fill_(1 + steps)

    def update(self) -> None:
        """Add the weights of a step."""
        self._model.update_parameters(self._weights)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the averages in place of the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for weight, mean in zip(self._weights, self._model.module.parameters(), strict=True):
            weight.data, mean.data = mean.data, weight.data


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file held: weights, their averages, the best so far and AdamW's moments by name, and JSON."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> None:
        """Put all tensors back where they came from."""
        with torch.no_grad():
            for part, into in (
                ("weight", trainable_parameters(module)),
                ("mean", average.means if average is not None else {}),
            ):
                for name, tensor in into.items():
                    tensor.copy_(self.tensors[f"{part}.{name}"])
        for name, weight in trainable_parameters(module).items():
            if f"moment.{name}" in self.tensors:
                # Where one kernel does all, it counts on the device too.
                counted = weight.device if optimizer.defaults.get("fused") else torch.device("cpu")
                optimizer.state[weight] = {
                    "step": self.tensors[f"steps.{name}"].to(counted),
                    "exp_avg": self.tensors[f"moment.{name}"].to(weight.device),
                    "exp_avg_sq": self.tensors[f"square.{name}"].to(weight.device),
                }

    def part(self, name: str) -> dict[str, Tensor]:
        """What was written under ``name.``, without it: ``best`` has the weights of the best validation so far."""
        start = f"{name}."
        return {own.removeprefix(start): tensor for own, tensor in self.tensors.items() if own.startswith(start)}


def write_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    more: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Write everything that training goes on from; of the module, what is trained."""
    tensors = dict(more)
    for name, weight in trainable_parameters(module).items():
        tensors[f"weight.{name}"] = weight.detach()
        moments = optimizer.state.get(weight)
        if moments:
            tensors[f"steps.{name}"] = moments["step"]
            tensors[f"moment.{name}"] = moments["exp_avg"]
            tensors[f"square.{name}"] = moments["exp_avg_sq"]
    if average is not None:
        tensors |= {f"mean.{name}": mean.detach() for name, mean in average.means.items()}
    held = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as beside:
        save_file(held, beside, {"state": json.dumps(state)})


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Read one; None where there is none. Raises UsageError for a file that is something else."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, state)  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(
            f"{path} is no checkpoint that can be read ({error}). Delete it, and training begins anew."
        ) from error


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Make it; raises UsageError where there is no such device, or this process has trained in the other precision."""
    is_cpu = pick_device(device).type == "cpu"
    try:
        return Accelerator(
            cpu=is_cpu,
            mixed_precision=precision,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except ValueError as error:
        # What accelerate decides it decides once a process.
        if not AcceleratorState().initialized or AcceleratorState().mixed_precision == precision:
            raise
        raise UsageError(
            f"precision = {precision!r} was asked for, and this process has trained with "
            f"{AcceleratorState().mixed_precision!r} before. Give the same, or start a new process."
        ) from error


def seed_torch(words: Sequence[int]) -> None:
    """Seed torch anew by some words, such as seed, step and part."""
    state = np.random.SeedSequence(list(words)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)


ESTIMATE_STEPS: Final = 4
"""Steps that are run for an estimate: one to warm up, and three that are timed."""

Step = TypeVar("Step")


def seconds_for(
    total: float, steps: Sequence[Step], size: Callable[[Step], float], take: Callable[[Step], object]
) -> float:
    """Estimate the seconds of steps of a total size by running the first `ESTIMATE_STEPS`; a single one is run twice.

    `take` runs a step to its end, also on a device that works asynchronously.
    """
    if not steps:
        return 0.0
    take(steps[0])
    timed = steps[1:ESTIMATE_STEPS] or steps[:1]
    began = perf_counter()
    for step in timed:
        take(step)
    return (perf_counter() - began) * total / sum(size(step) for step in timed)
