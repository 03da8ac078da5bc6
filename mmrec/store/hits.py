"""Stored items as answers show them."""

from collections.abc import Mapping
from typing import Final

from mmrec.query import Hit
from mmrec.store.stored_item import StoredItem

__all__ = ["hit_of", "title_of"]

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
