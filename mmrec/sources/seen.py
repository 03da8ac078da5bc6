"""Which ids a source has given already, in eight bytes an id."""

import hashlib
from typing import Final

import numpy as np
from jaxtyping import UInt64

__all__ = ["SeenIds"]

_RECENT: Final = 65_536


class SeenIds:
    """A set of strings that only grows.

    Keeps 64-bit digests: a recent few in a Python set, the rest in sorted arrays of doubling size. Among 100 million
    ids the chance of one false alarm is below 1 in 3,000.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[UInt64[np.ndarray, " n"]] = []

    def __contains__(self, text: str) -> bool:
        digest = _digest(text)
        return digest in self._recent or any(_holds(run, digest) for run in self._sorted)

    def add(self, text: str) -> None:
        """Remember one more."""
        self._recent.add(_digest(text))
        if len(self._recent) >= _RECENT:
            run = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
            self._recent.clear()
            while self._sorted and len(self._sorted[-1]) <= len(run):
                run = np.sort(np.concatenate([self._sorted.pop(), run]))
            self._sorted.append(run)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _holds(run: UInt64[np.ndarray, " n"], digest: int) -> bool:
    place = int(np.searchsorted(run, np.uint64(digest)))
    return place < len(run) and int(run[place]) == digest
