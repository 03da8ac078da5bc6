"""The space of the tower that a generation holds; that of the contents where it holds none."""

import numpy as np
from jaxtyping import Float32, Int64

from indexers.live import LiveIndex
from mmrec.generation.taste import Taste
from mmrec.recommending.taste_space import TasteSpace, content_space
from mmrec.snapshot import Snapshot

__all__ = ["space_of"]


def space_of(snapshot: Snapshot) -> TasteSpace:
    """Return where a snapshot's items and people meet.

    Items that are new or edited since the generation was built are placed by the tower at once, from their contents.
    Raises StoreError where the tower's files are damaged.
    """
    taste = snapshot.generation.taste
    if taste is None:
        return content_space(snapshot)
    vectors = _Vectors(snapshot, taste)
    live = LiveIndex(taste.model.dim, "ip", [taste.index], stored=vectors.built)
    live.remove(np.setdiff1d(snapshot.generation.rows, snapshot.live.rows, assume_unique=True))
    there = snapshot.tail_modalities > 0
    if there.any():
        live.add(snapshot.tail_rows[there], vectors.tail[there])

    def contents(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n content"]:
        return snapshot.vectors(rows.tolist())

    return TasteSpace(taste.model, live, vectors, contents, _whole)


class _Vectors:
    """Where the tower places items, by row number; an unknown row is a zero vector."""

    def __init__(self, snapshot: Snapshot, taste: Taste) -> None:
        self._generation, self._taste, self._rows = snapshot.generation, taste, snapshot.tail_rows
        self.tail = taste.model.items(snapshot.tail_rows, snapshot.tail_vectors)

    def __call__(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        found = np.zeros((len(rows), self._taste.model.dim), dtype=np.float32)
        known = self._generation.find(rows) >= 0
        found[known] = self.built(rows[known])
        if len(self._rows):
            places = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
            fresh = self._rows[places] == rows
            found[fresh] = self.tail[places[fresh]]
        return found

    def built(self, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        """Rows that the generation has."""
        return np.asarray(self._taste.vectors[self._generation.find(rows)], dtype=np.float32)


def _whole(person: Float32[np.ndarray, " dim"], item: Float32[np.ndarray, " dim"]) -> dict[str, float]:
    """A tower mixes the modalities: only the sum can be told."""
    return {"behaviour": float(person @ item)}
