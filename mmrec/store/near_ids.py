"""Ids that someone may have meant."""

from difflib import get_close_matches

from mmrec.store.items import ItemTable
from mmrec.store.tables import quoted

__all__ = ["near_ids"]

MOST_CANDIDATES = 300
"""Compared letter by letter; the table finds them by their beginning or end, so the cost is that of reading the ids."""


def near_ids(items: ItemTable, wanted: str) -> list[str]:
    """At most three ids like one that is not there, the likeliest first."""
    half = max(1, len(wanted) // 2)
    spelling, start, end = (quoted([text]) for text in (wanted.lower(), wanted[:half], wanted[-half:]))
    filters = (f"lower(id) = {spelling}", f"starts_with(id, {start})", f"ends_with(id, {end})")
    found = [name for where in filters for name in next(items.ids(where, limit=MOST_CANDIDATES), [])]
    if not found:
        found = next(items.ids(limit=MOST_CANDIDATES), [])
    lowered = {name.lower(): name for name in found}
    return [lowered[name] for name in get_close_matches(wanted.lower(), list(lowered), n=3, cutoff=0.6)]
