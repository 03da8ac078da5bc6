"""Finding rows by 16-byte content hash, in 24 bytes of memory a key."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64, UInt64

__all__ = ["KeyIndex", "as_words"]


def as_words(keys: Iterable[bytes]) -> UInt64[np.ndarray, "n 2"]:
    """16-byte keys as pairs of integers."""
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2).astype(np.uint64)


class KeyIndex:
    """The position of each key in a list of keys. The first of equal keys wins."""

    def __init__(self, keys: UInt64[np.ndarray, "n 2"]) -> None:
        self._order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._first = keys[self._order, 0]
        self._second = keys[self._order, 1]
        self._longest_run = _longest_run(self._first)

    def __len__(self) -> int:
        """Number of keys, repeated ones included."""
        return len(self._order)

    def find(self, keys: UInt64[np.ndarray, "m 2"]) -> Int64[np.ndarray, "m"]:
        """Position of each key, -1 where it is not there."""
        found = np.full(len(keys), -1, dtype=np.int64)
        start = np.searchsorted(self._first, keys[:, 0])
        for step in range(self._longest_run):
            place = start + step
            inside = place < len(self._first)
            place = np.where(inside, place, 0)
            hit = inside & (self._first[place] == keys[:, 0]) & (self._second[place] == keys[:, 1]) & (found < 0)
            found[hit] = self._order[place[hit]]
        return found


def _longest_run(ordered: UInt64[np.ndarray, "n"]) -> int:
    if not len(ordered):
        return 0
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return int(np.diff(np.append(starts, len(ordered))).max())
