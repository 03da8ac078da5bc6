"""Search hits made of stored rows."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float32

from mmrec.query import Hit
from mmrec.snapshot import Snapshot
from mmrec.storage.stored_item import StoredItem

__all__ = ["found_hits", "hit_of", "title_of"]


_TITLES: Final = ("title", "name", "headline", "product_name", "label", "caption")
_LONGEST: Final = 60


def hit_of(item: StoredItem, score: float, shares: Mapping[str, float]) -> Hit:
    """Show an item: its id, text, metadata, and where its media are."""
    media: dict[str, tuple[str, ...]] = {}
    for one in item.fields:
        if one.uri is not None:
            media[one.modality] = (*media.get(one.modality, ()), one.uri)
    return Hit(item.id, score, shares, item.text, media, item.metadata)


def title_of(item: StoredItem) -> str:
    """Name an item: by its title among the metadata, or else by the first line of its text; empty where it has none.

    Long ones are shortened.
    """
    named = {name.lower(): value for name, value in item.metadata.items() if isinstance(value, str)}
    lines = [*(named.get(name, "") for name in _TITLES), *(item.text or "").splitlines()]
    title = next((line.strip() for line in lines if line.strip()), "")
    return title if len(title) <= _LONGEST else title[: _LONGEST - 1].rstrip() + "…"


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
