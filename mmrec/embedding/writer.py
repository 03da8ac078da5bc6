"""Fresh vectors on their way to the store."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32

from mmrec.spaces import Space
from mmrec.store.layout import Layout
from mmrec.store.lock import PATIENCE_SECONDS, commit_lock
from mmrec.store.vectors import VectorAppender, VectorTable

__all__ = ["VectorWriter"]

FLUSH_BYTES = 32 * 1024 * 1024
FLUSH_SECONDS = 10.0


class VectorWriter:
    """Gathers vectors by space and commits them in large pieces; what is flushed survives any accident.

    Of a content that has a vector in a space by then, from this job or another, that one stays as it is.
    """

    def __init__(self, layout: Layout, seen: Mapping[Space, VectorTable]) -> None:
        """`seen` has the tables as they were read before, so that their keys are not read again."""
        self._layout = layout
        self._seen = seen
        self._appenders: dict[Space, VectorAppender] = {}
        self._pending: dict[Space, list[tuple[list[bytes], np.ndarray]]] = {}
        self._bytes = 0
        self._flushed = time.monotonic()

    def write(self, space: Space, hashes: Sequence[bytes], vectors: Float32[np.ndarray, "n dim"]) -> None:
        """Take vectors of contents; they are on disk after the next flush."""
        if not len(hashes):
            return
        halves = vectors.astype(np.float16)
        self._pending.setdefault(space, []).append((list(hashes), halves))
        self._bytes += halves.nbytes
        if self._bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def has(self, space: Space, hashes: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which contents have a vector in the store by now."""
        return self._appender(space).has(hashes)

    def flush(self) -> None:
        """Commit everything taken so far. Raises StoreError where that fails."""
        self._bytes = 0
        while self._pending:
            space, parts = self._pending.popitem()
            hashes = [content for part, _ in parts for content in part]
            with commit_lock(self._layout.lock, PATIENCE_SECONDS):
                self._appender(space).append(hashes, np.concatenate([part for _, part in parts]))
        self._flushed = time.monotonic()

    def _appender(self, space: Space) -> VectorAppender:
        if space not in self._appenders:
            self._appenders[space] = VectorAppender(self._layout.vectors(space), space, self._seen.get(space))
        return self._appenders[space]
