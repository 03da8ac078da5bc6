"""Freed memory is reused. Each case is a process of its own, since what is set cannot be taken back."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from mmrec.compute import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def batch():
    [np.ones(2**21) for _ in range(4)]

batch()
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no such setting")
def test_blocks_that_are_freed_and_taken_again_are_not_cleared_by_the_system():
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") < 100
    assert faults("returned") > 1_000
