"""The space in which users meet items: that of the trained tower, or of the contents where there is none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from indexers.live import LiveIndex
from mmrec.generation.user_tower_index import UserTowerIndex
from mmrec.snapshot import Snapshot
from mmrec.users.interests import ContentInterests
from mmrec.users.model import UserModel


@dataclass(frozen=True, slots=True, eq=False)
class TasteSpace:
    """What recommending needs of a model, trained or not. Rows are those of the snapshot that it belongs to.

    A text is placed in it as an item without behaviour: `model.items` with row -1 and the text's fused vector. What is
    alike is told by content, whatever the model: only fused vectors are centred, so that strangers have cosine 0.

    Attributes:
        model: Places items and people.
        index: Search over the items' vectors by inner product, with what was added since, without what was removed.
        vectors: Returns the items' vectors by row number; an unknown row is a zero vector.
        contents: Returns the items' fused vectors likewise.
        shares: Returns what each part adds to the inner product of a person's and an item's vector.

    """

    model: UserModel
    index: LiveIndex
    vectors: Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n dim"]]
    contents: Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n content"]]
    shares: Callable[[Float32[np.ndarray, " dim"], Float32[np.ndarray, " dim"]], Mapping[str, float]]


def content_space(snapshot: Snapshot) -> TasteSpace:
    """Return the space of the contents themselves: nothing is trained, and items count the moment they are indexed."""
    fusion = snapshot.generation.fusion

    def contents(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n content"]:
        return snapshot.vectors(rows.tolist())

    return TasteSpace(ContentInterests(fusion.dim), snapshot.live, contents, contents, fusion.shares)


def space_of(snapshot: Snapshot) -> TasteSpace:
    """Return where a snapshot's items and people meet.

    Items that are new or edited since the generation was built are placed by the tower at once, from their contents.
    Raises StoreError where the tower's files are damaged.
    """
    taste = snapshot.generation.tower_index
    if taste is None:
        return content_space(snapshot)
    vectors = _Vectors(snapshot, taste)
    live = LiveIndex(taste.model.dim, "ip", [taste.index])
    live.remove(np.setdiff1d(snapshot.generation.rows, snapshot.live.rows, assume_unique=True))
    there = snapshot.tail_modalities > 0
    if there.any():
        live.add(snapshot.tail_rows[there], vectors.tail[there])

    def contents(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n content"]:
        return snapshot.vectors(rows.tolist())

    return TasteSpace(taste.model, live, vectors, contents, _whole)


class _Vectors:
    """Where the tower places items, by row number; an unknown row is a zero vector."""

    def __init__(self, snapshot: Snapshot, taste: UserTowerIndex) -> None:
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
