"""Stored items as answers show them."""

from collections.abc import Mapping

from mmrec.query import Hit
from mmrec.store.stored_item import StoredItem

__all__ = ["hit_of"]


def hit_of(item: StoredItem, score: float, shares: Mapping[str, float]) -> Hit:
    """Show an item: its id, text, metadata, and where its media are."""
    media: dict[str, tuple[str, ...]] = {}
    for one in item.fields:
        if one.uri is not None:
            media[one.modality] = (*media.get(one.modality, ()), one.uri)
    return Hit(item.id, score, shares, item.text, media, item.metadata)
