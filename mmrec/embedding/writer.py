"""Fresh vectors on their way to the store."""

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from mmrec.spaces import Space
from mmrec.store.layout import Layout
from mmrec.store.lock import PATIENCE_SECONDS, commit_lock
from mmrec.store.vectors import append_vectors

__all__ = ["VectorWriter"]

FLUSH_BYTES = 32 * 1024 * 1024
FLUSH_SECONDS = 10.0


class VectorWriter:
    """Gathers vectors by space and commits them in large pieces; what is flushed survives any accident."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
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

    def flush(self) -> None:
        """Commit everything taken so far. Raises StoreError where that fails."""
        self._bytes = 0
        while self._pending:
            space, parts = self._pending.popitem()
            hashes = [content for part, _ in parts for content in part]
            with commit_lock(self._layout.lock, PATIENCE_SECONDS):
                append_vectors(self._layout.vectors(space), space, hashes, np.concatenate([part for _, part in parts]))
        self._flushed = time.monotonic()
