"""The space in which users and items are compared: that of the trained tower, or of the contents without one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from indexers.live import LiveIndex
from indexers.vectors import find_rows
from mmrec.snapshot import Snapshot
from mmrec.users.interests import ContentInterests
from mmrec.users.model import UserModel


@dataclass(frozen=True, slots=True, eq=False)
class UserItemSpace:
    """What recommending needs of a user model. Row numbers are those of the snapshot that it belongs to.

    A text is placed in it as an item without events: `model.items` with row -1 and the text's fused vector. Items are
    compared with items by content, whatever the model: only fused vectors are centred, so that unrelated items have
    cosine 0. `vectors` and `contents` give items' vectors and fused vectors by row number, zero for unknown rows.
    `shares` gives the parts of the inner product of a user's and an item's vector. The scores of a `trained` model are
    not content cosines.
    """

    model: UserModel
    index: LiveIndex
    vectors: Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n dim"]]
    contents: Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n content"]]
    shares: Callable[[Float32[np.ndarray, " dim"], Float32[np.ndarray, " dim"]], Mapping[str, float]]
    trained: bool = False


def content_space(snapshot: Snapshot) -> UserItemSpace:
    """The space of the contents: nothing is trained, and items count as soon as they are indexed."""
    fusion = snapshot.generation.fusion

    def contents(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n content"]:
        return snapshot.vectors(rows.tolist())

    return UserItemSpace(ContentInterests(fusion.dim), snapshot.index, contents, contents, fusion.contributions)


def user_item_space(snapshot: Snapshot) -> UserItemSpace:
    """The space of a snapshot's user tower, or that of its contents without one.

    Items that are new or edited since the generation was built are placed by the tower at once, from their contents.
    Raises StoreError where the tower's files are damaged.
    """
    generation, tower = snapshot.generation, snapshot.generation.tower_index
    if tower is None:
        return content_space(snapshot)
    tail_rows = snapshot.tail_rows
    tail = tower.model.items(tail_rows, snapshot.tail_vectors)

    def vectors(rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n dim"]:
        found = np.zeros((len(rows), tower.model.dim), dtype=np.float32)
        places = generation.find(rows)
        found[places >= 0] = tower.vectors[places[places >= 0]]
        places = find_rows(tail_rows, rows)
        found[places >= 0] = tail[places[places >= 0]]
        return found

    live = LiveIndex(tower.model.dim, "ip", [tower.index])
    live.remove(np.setdiff1d(generation.rows, snapshot.index.rows, assume_unique=True))
    usable = snapshot.tail_modalities > 0
    if usable.any():
        live.add(tail_rows[usable], tail[usable])
    return UserItemSpace(tower.model, live, vectors, content_space(snapshot).contents, _behaviour_share, trained=True)


def _behaviour_share(user: Float32[np.ndarray, " dim"], item: Float32[np.ndarray, " dim"]) -> dict[str, float]:
    """A tower mixes the modalities: only the sum is known."""
    return {"behaviour": float(user @ item)}
