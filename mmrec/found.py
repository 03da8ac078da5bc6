"""What a search found, looked up and explained."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from mmrec.query import Hit
from mmrec.snapshot import Snapshot
from mmrec.store.hits import hit_of

__all__ = ["found_hits"]


def found_hits(
    snapshot: Snapshot, query: Float32[np.ndarray, " dim"], rows: Sequence[int], left_out: set[str]
) -> list[Hit]:
    """Return the items of rows, best first as they are given, with what each modality adds to their scores.

    Rows that are not there any more, and items of ids that are left out, are passed over.
    """
    found = [row for row in rows if row >= 0]
    stored = snapshot.items.by_row(found)
    vectors = dict(zip(found, snapshot.vectors(found), strict=True))
    hits = []
    for row in found:
        item = stored.get(row)
        if item is not None and item.id not in left_out:
            shares = snapshot.generation.fusion.shares(query, vectors[row])
            hits.append(hit_of(item, float(query @ vectors[row]), shares))
    return hits
