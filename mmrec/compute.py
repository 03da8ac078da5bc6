"""Threads, devices and memory of this process."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmrec.errors import UsageError

if TYPE_CHECKING:
    import torch


# The packaged networks are small and their batches smaller: more threads than this would only wait for each other.
_MOST_THREADS = 16
_CGROUP = Path("/sys/fs/cgroup")

_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def available_cores() -> int:
    """Number of cores this process may use: its affinity, or a container's quota where that is smaller."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(_CGROUP)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def let_waiting_threads_sleep() -> bool:
    """Have waiting threads sleep, unless the user chose otherwise; call it first of all.

    Opening a store does it too. Returns whether it was in time: the OpenMP runtime of torch (GNU's) reads the variable
    when it is loaded, and has no call that changes it later.
    """
    if "torch" in sys.modules:
        return False
    if not _wait_policy_is_set():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run the block with one thread, unless OMP_NUM_THREADS or a wait policy is set.

    A short query gains little by more threads, and beside a busy process spinning threads make it twenty times slower.
    """
    if _wait_policy_is_set() or _omp_num_threads() is not None:
        yield
        return
    import torch  # noqa: PLC0415 (after the variable)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def configure_threads(count: int | None = None) -> int:
    """Set how many threads compute in this process, and return it; best called once, before torch is loaded.

    By default it is what ``OMP_NUM_THREADS`` says, as launchers of several processes set it for each of them, or else
    the available cores, at most 16. Raises UsageError for a count below one.

    Waiting threads are put to sleep (``OMP_WAIT_POLICY=PASSIVE``, unless the variable is set already). By default they
    spin, which starves other work as soon as a core is shared. Measured on two busy cores, two threads, median items a
    second, spinning and asleep: EfficientNet-Lite0 5 and 73, YAMNet 27 and 731, MiniLM 40 and 236 (one thread: 45, 919
    and 138).
    """
    if count is not None and count < 1:
        raise UsageError(f"The number of threads is {count}, and must be 1 or more. Leave it out to use all cores.")
    let_waiting_threads_sleep()
    threads = count or _omp_num_threads() or min(available_cores(), _MOST_THREADS)
    import torch  # noqa: PLC0415 (after the variable)

    torch.set_num_threads(threads)
    return threads


def decoding_workers() -> int:
    """Number of threads that read and decode beside the computation: from 2, as one may wait for the disk, to 16."""
    return max(2, min(available_cores(), _MOST_THREADS))


def check_device(given: str) -> str:
    """Check the name of a device. Raises UsageError."""
    if not _DEVICE.fullmatch(given):
        raise UsageError(f"No device is called {given!r}: choose auto, cpu, cuda, cuda:1 (any number) or mps.")
    return given


def pick_device(name: str = "auto") -> "torch.device":
    """Return the device of that name: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises UsageError for another name, or where this machine has no such device.
    """
    import torch  # noqa: PLC0415

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in found.items() if there))
    kind, _, number = check_device(name).partition(":")
    if not found[kind] or (number and int(number) >= torch.cuda.device_count()):
        there = ", ".join(kind for kind, present in found.items() if present)
        raise UsageError(f"This machine has no device {name!r}; it has {there}. Use --device auto.")
    return torch.device(name)


def pick_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """Return the number format of that name: ``fp32``, or on a GPU also ``bf16`` and ``fp16``.

    Raises UsageError for another name, and for a half format on a CPU, where it is many times slower.
    """
    import torch  # noqa: PLC0415

    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in formats:
        raise UsageError(f"There is no number format {name!r}. Allowed: {', '.join(formats)}.")
    if name != "fp32" and device.type == "cpu":
        raise UsageError(f"The CPU allows only fp32, not {name}. Use --dtype fp32 or a GPU.")
    return formats[name]


def _wait_policy_is_set() -> bool:
    """Whether a variable says how threads wait: the user's, or the one set here in time."""
    return any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))


def _omp_num_threads() -> int | None:
    """What OMP_NUM_THREADS says; of a list, as nested teams have it, the first."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _quota(root: Path) -> float | None:
    """The cores that control groups grant, by the tightest group that this process is in."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    here = root / own
    folders = [here, *(parent for parent in here.parents if parent.is_relative_to(root))]
    quotas = [_cgroup_v2_quota(folder / "cpu.max") for folder in folders]
    quotas.append(_cgroup_v1_quota(root / "cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def _cgroup_v2_quota(file: Path) -> float | None:
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _cgroup_v1_quota(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None


# glibc's mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
# The most that glibc accepts for the second.
_KEPT_AT_THE_TOP: Final = 128 * 1024 * 1024
_LARGEST_REUSED: Final = 32 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Have freed blocks of up to 32 MB reused instead of returned to the system; call it early.

    A network on the CPU frees and takes the same few large blocks with every batch, and with glibc's defaults the
    system clears each page of them again. Measured on two cores, EfficientNet-Lite0, 200 photos of 1600 x 1200: 2.4 s
    for 3.4 s of encoding, 3.5 s for 4.8 s of the whole job. Returns whether this C library can do it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_AT_THE_TOP)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_REUSED))
