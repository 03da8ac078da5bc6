"""Threads, devices and memory of this process."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmrec.errors import UsageError

if TYPE_CHECKING:
    import torch


# The packaged networks are small and their batches smaller: more threads than this would only wait for each other.
_MOST_THREADS = 16
_CGROUP = Path("/sys/fs/cgroup")

_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Threads:
    """How many threads compute, and why, in words for a person."""

    count: int
    reason: str


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, or a container's quota where that is smaller."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(_CGROUP)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def let_waiting_threads_sleep() -> bool:
    """Have threads that wait put to sleep, unless the person chose otherwise; a program's first act.

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
    """Compute with one thread in here, where waiting threads would spin and the person has not chosen how many compute.

    A short query gains little by more threads, and beside a busy process those that spin make it twenty times slower.
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


def configure_threads(count: int | None = None) -> Threads:
    """Set how many threads compute in this process; best called before torch is loaded, and once.

    Args:
        count: How many; by default what ``OMP_NUM_THREADS`` says, as launchers of several processes set it for each of
            them, or else the available cores, at most 16.

    Returns:
        What was set, and why.

    Threads that wait are put to sleep (``OMP_WAIT_POLICY=PASSIVE``, unless the variable is set already). By default
    they spin, which starves whoever has the work as soon as a core is shared. Measured on two busy cores, two
    threads, median items a second, spinning and asleep: EfficientNet-Lite0 5 and 73, YAMNet 27 and 731, MiniLM 40
    and 236 (one thread: 45, 919 and 138).

    Raises:
        UsageError: `count` is below one.

    """
    if count is not None and count < 1:
        raise UsageError(
            f"{count} threads were asked for; at least 1 is needed. Leave it out to use the available cores."
        )
    late = not let_waiting_threads_sleep()
    cores = available_cores()
    chosen = count or _omp_num_threads()
    threads = chosen or min(cores, _MOST_THREADS)
    import torch  # noqa: PLC0415 (after the variable)

    torch.set_num_threads(threads)
    reason = f"{cores} available cores, at most {_MOST_THREADS} used"
    if told:
        reason = f"as {'asked' if count else 'OMP_NUM_THREADS says'}, of {cores} available cores"
    waits = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if late and not waits:
        reason += (
            "; torch was loaded before, so waiting threads spin: set OMP_WAIT_POLICY=PASSIVE where cores are shared"
        )
    return Threads(chosen, reason)


def decoding_workers() -> int:
    """Return how many threads should read and decode beside the computation: the available cores, from 2 to 16.

    Two even on one core: one of them may be waiting for the disk.
    """
    return max(2, min(available_cores(), _MOST_THREADS))


def pick_device(name: str = "auto") -> "torch.device":
    """Return the device of that name: ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises UsageError for another name, or where this machine has no such device.
    """
    import torch  # noqa: PLC0415

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in found.items() if there))
    kind, _, number = name.partition(":")
    if kind not in found or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"There is no device {name!r}. Allowed: auto, cpu, cuda, cuda:<number>, mps.")
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
        raise UsageError(f"{name} was asked for on the CPU, where only fp32 is allowed. Use --dtype fp32 or a GPU.")
    return formats[name]


def _wait_policy_is_set() -> bool:
    """Whether a variable says how threads wait: the person's, or the one that was set here in time."""
    return any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"))


def _omp_num_threads() -> int | None:
    """Return what OMP_NUM_THREADS says; of a list, as nested teams have it, the first."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _quota(root: Path) -> float | None:
    """Return the cores that control groups grant, by the tightest group that this process is in."""
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
    """Have blocks of up to 32 MB reused, not returned to the system and asked for again; a program's early act.

    A network on the CPU frees and takes the same few large blocks with every batch, and with glibc's defaults the
    system clears each page of them anew. Measured on two cores, EfficientNet-Lite0, 200 photos of 1600 x 1200:
    2.4 s for 3.4 s of encoding, 3.5 s for 4.8 s of the whole job. Returns whether this C library can do it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_AT_THE_TOP)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_REUSED))


def check_device(given: str) -> str:
    """Check the name of a device. Raises UsageError."""
    if not _DEVICE.fullmatch(given):
        raise UsageError(f"No device is called {given!r}: choose auto, cpu, cuda, cuda:1 (any number) or mps.")
    return given
