"""What places tensors on a device and joins processes, for all trainings."""

from accelerate import Accelerator, DistributedDataParallelKwargs

from mmrec.compute import pick_device

__all__ = ["make_accelerator"]


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Make it for a kind of device, ``no`` or ``bf16``. Raises UsageError where there is no such device."""
    return Accelerator(
        cpu=pick_device(device).type == "cpu",
        mixed_precision=precision,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
