"""Where people and items meet: a model of people, and an index over the vectors that it gives the items."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from indexers.live import LiveIndex
from mmrec.snapshot import Snapshot
from mmrec.users.interests import ContentInterests
from mmrec.users.model import UserModel

__all__ = ["TasteSpace", "content_space"]


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
