"""What places tensors on a device and joins processes, for all trainings."""

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from mmrec.compute import pick_device
from mmrec.errors import UsageError

__all__ = ["make_accelerator"]


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
