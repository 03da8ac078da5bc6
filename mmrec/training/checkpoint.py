"""The whole state of a training in one file, written beside its place and renamed into it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from indexers.atomic import atomic_path
from mmrec.errors import UsageError
from mmrec.training.average import Average, trained

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]


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
