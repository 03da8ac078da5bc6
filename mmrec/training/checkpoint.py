"""Checkpoints and distributed processes of a training: running average, seeds by step, time per step."""

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

from indexers.atomic import atomic_path
from mmrec.compute import pick_device
from mmrec.errors import UsageError

_SETTLING = 10


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that ask for gradients, by name, each once."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


class Average:
    """Exponential moving average of a module's trained parameters (Polyak and Juditsky, 1992)."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.keep = keep
        self.own = trained(module)
        self.mean = {name: weight.detach().clone() for name, weight in self.own.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of a step in; the first steps, which are far off, are forgotten faster."""
        keep = min(self.keep, step / (step + _SETTLING))
        torch._foreach_lerp_(list(self.mean.values()), list(self.own.values()), 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the mean in place of the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        held: dict[str, Tensor] = {name: weight.clone() for name, weight in self.own.items()}
        for name, weight in self.own.items():
            weight.copy_(self.mean[name])
            self.mean[name] = held[name]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file held.

    Attributes:
        tensors: Weights, their mean, the best so far, and AdamW's moments, by name.
        state: Everything else, as JSON holds it.

    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> None:
        """Put all tensors back where they came from."""
        own = trained(module)
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(self.tensors[f"weight.{name}"])
                if average is not None:
                    average.mean[name].copy_(self.tensors[f"mean.{name}"])
        for name, weight in own.items():
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
    average: Average | None,
    more: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Write everything that training goes on from; of the module, what is trained."""
    tensors = dict(more)
    for name, weight in trained(module).items():
        tensors[f"weight.{name}"] = weight.detach()
        if average is not None:
            tensors[f"mean.{name}"] = average.mean[name]
        moments = optimizer.state.get(weight)
        if moments:
            tensors[f"steps.{name}"] = moments["step"]
            tensors[f"moment.{name}"] = moments["exp_avg"]
            tensors[f"square.{name}"] = moments["exp_avg_sq"]
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
    """Make it for a kind of device, ``no`` or ``bf16``.

    Raises UsageError where there is no such device, or this process has trained in the other precision.
    """
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


FEW: Final = 4
"""Steps that are taken: one that is not timed, since it finds nothing warm, and three that are."""

Taken = TypeVar("Taken")


def seconds_for(
    total: float, steps: Sequence[Taken], size: Callable[[Taken], float], take: Callable[[Taken], object]
) -> float:
    """Return the seconds that steps of a total size take.

    Args:
        total: Size of all steps together.
        steps: Some of them, of which the first `FEW` are taken; where there is but one, it is taken twice.
        size: Of a step; time is shared out by it.
        take: Takes a step to its end, also on a device that works by itself.

    """
    if not steps:
        return 0.0
    take(steps[0])
    timed = steps[1:FEW] or steps[:1]
    began = perf_counter()
    for step in timed:
        take(step)
    return (perf_counter() - began) * total / sum(size(step) for step in timed)
