"""Checking SQLite's write-ahead log, which SQLite itself cuts off in silence at the first frame that is damaged.

File format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
import time
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, UInt8, UInt32

__all__ = ["lost_commits"]

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER_BYTES: Final = 24
_MAGIC: Final = 0x377F0682
_FRAMES_AT_ONCE: Final = 1024
_READINGS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_SMALLEST_PAGE, _LARGEST_PAGE = 512, 65_536


def lost_commits(path: Path) -> int:
    """Return how many commits of a write-ahead log lie behind a damaged frame, where SQLite does not read them.

    A commit that ends in the damaged frame itself does not count: a power cut in the middle of writing it, before it
    was acknowledged, leaves the same. No log has lost none. What another process is writing just now can look damaged,
    so that it is read again before it is said.
    """
    lost = 0
    for _ in range(_READINGS):
        try:
            lost = _lost_now(path)
        except FileNotFoundError:
            return 0
        if not lost:
            return 0
        time.sleep(_PAUSE_SECONDS)
    return lost


def _lost_now(path: Path) -> int:
    with path.open("rb") as file:
        begin = file.read(_HEADER.size)
        if len(begin) < _HEADER.size:
            return 0
        magic, _, page, _, salt_1, salt_2, *seed = _HEADER.unpack(begin)
        if magic not in {_MAGIC, _MAGIC + 1} or not _SMALLEST_PAGE <= page <= _LARGEST_PAGE or page & (page - 1):
            return int(bool(file.read(1)))
        order = ">u4" if magic & 1 else "<u4"
        head = np.frombuffer(begin[:24], dtype=np.uint8)[None]
        first = _checksums(head, np.zeros((1, 2), dtype=np.uint32), order)[0]
        if first.tolist() != seed:
            return int(bool(file.read(1)))
        damaged, lost = False, 0
        last = np.array([seed], dtype=np.uint32)
        size = _FRAME_HEADER_BYTES + page
        while len(frames := file.read(size * _FRAMES_AT_ONCE)) >= size:
            raw = np.frombuffer(frames, dtype=np.uint8)[: len(frames) // size * size].reshape(-1, size)
            words = raw[:, :_FRAME_HEADER_BYTES].copy().view(">u4").astype(np.uint32)
            # Frames of other salts are left from before the log was begun anew.
            ours: Bool[np.ndarray, " n"] = (words[:, 2] == salt_1) & (words[:, 3] == salt_2)
            covered = np.concatenate([raw[:, :8], raw[:, _FRAME_HEADER_BYTES:]], axis=1)
            sums = _checksums(covered, np.concatenate([last, words[:-1, 4:6]]), order)
            good = ours & (sums == words[:, 4:6]).all(axis=1)
            behind = 0 if damaged else len(good) if good.all() else int(np.argmin(good)) + 1
            lost += int((ours & (words[:, 1] > 0))[behind:].sum())
            damaged |= not good.all()
            last = words[-1:, 4:6]
    return lost


def _checksums(data: UInt8[np.ndarray, "n bytes"], seeds: UInt32[np.ndarray, "n 2"], order: str) -> np.ndarray:
    """SQLite's checksum of each row, begun from its seed: s0 += x0 + s1, s1 += x1 + s0 for each two words."""
    words = np.ascontiguousarray(data).view(order).astype(np.uint32)
    factors, power = _factors(words.shape[1] // 2)
    sums = np.stack([(words * factor).sum(axis=1, dtype=np.uint32) for factor in factors], axis=1)
    begun = np.stack([(seeds * row).sum(axis=1, dtype=np.uint32) for row in power], axis=1)
    return sums + begun


def _factors(steps: int) -> tuple[UInt32[np.ndarray, "2 words"], UInt32[np.ndarray, "2 2"]]:
    """How often each word, and each half of the seed, counts in the two sums after some steps."""
    factors = np.zeros((2, 2 * steps), dtype=np.uint32)
    row_0, row_1 = (1, 0), (0, 1)  # what a state of now counts at the end
    for step in range(steps - 1, -1, -1):
        for sum_, (a, b) in enumerate((row_0, row_1)):
            factors[sum_, 2 * step : 2 * step + 2] = (a + b) % 2**32, b
        row_0, row_1 = _before(row_0), _before(row_1)
    return factors, np.array([row_0, row_1], dtype=np.uint32)


def _before(row: tuple[int, int]) -> tuple[int, int]:
    """What the state before one step counts, where the state after it counts `row`."""
    a, b = row
    return (a + b) % 2**32, (a + 2 * b) % 2**32
