"""Distributed training: the accelerator, seeds by step, and time per step."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from mmrec.compute import pick_device
from mmrec.errors import UsageError

__all__ = ["FEW", "make_accelerator", "seconds_for", "seed_torch"]


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
