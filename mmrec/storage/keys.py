"""Finding rows by 16-byte content hash, in 24 bytes of memory a key."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

__all__ = ["KeyIndex", "as_words", "words_of"]


def as_words(keys: Iterable[bytes]) -> UInt64[np.ndarray, "n 2"]:
    """16-byte keys as pairs of integers."""
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2).astype(np.uint64)


def words_of(column: pa.FixedSizeBinaryArray) -> UInt64[np.ndarray, "n 2"]:
    """Read a column of 16-byte keys without nulls as pairs of integers, at no copy."""
    words = np.frombuffer(column.buffers()[1] or b"", dtype="<u8").reshape(-1, 2)
    return words[column.offset : column.offset + len(column)].astype(np.uint64, copy=False)


class KeyIndex:
    """The position of each key in a list of keys. The first of equal keys wins."""

    def __init__(self, keys: UInt64[np.ndarray, "n 2"]) -> None:
        self._order = np.argsort(np.ascontiguousarray(keys[:, 0]))
        self._first = keys[self._order, 0]
        self._second = keys[self._order, 1]
        self._longest_run = _longest_run(self._first)

    def __len__(self) -> int:
        """Number of keys, repeated ones included."""
        return len(self._order)

    @property
    def keys(self) -> UInt64[np.ndarray, "n 2"]:
        """The keys, in no promised order."""
        return np.stack([self._first, self._second], axis=1)

    def find(self, keys: UInt64[np.ndarray, "m 2"]) -> Int64[np.ndarray, " m"]:
        """Position of each key, -1 where it is not there."""
        found = np.full(len(keys), -1, dtype=np.int64)
        start = np.searchsorted(self._first, keys[:, 0])
        for step in range(self._longest_run):  # no step where there are no keys
            place = start + step
            inside = place < len(self._first)
            place = np.where(inside, place, 0)
            hit = inside & (self._first[place] == keys[:, 0]) & (self._second[place] == keys[:, 1])
            position = self._order[place]  # equal keys lie in no order
            found = np.where(hit & ((found < 0) | (position < found)), position, found)
        return found


def _longest_run(ordered: UInt64[np.ndarray, " n"]) -> int:
    if not len(ordered):
        return 0
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return int(np.diff(np.append(starts, len(ordered))).max())
