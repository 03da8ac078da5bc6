"""The most memory that a process held."""

import re
from pathlib import Path

__all__ = ["peak_megabytes"]

SELF = Path("/proc/self")


def peak_megabytes(process: Path = SELF) -> float:
    """Peak resident megabytes of a process, 0 where it is gone.

    Not getrusage: there the peak of a process is at least that of the one it was made from.
    """
    found = re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text())
    return int(found[1]) / 1024 if found else 0.0
