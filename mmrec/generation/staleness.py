"""Items whose vector in a generation is no longer what their contents say."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from mmrec.fusion.blocks import Block
from mmrec.generation.generation import Generation
from mmrec.store.items import ItemTable
from mmrec.store.keys import KeyIndex
from mmrec.store.layout import Layout
from mmrec.store.vectors import VectorTable

__all__ = ["stale_rows"]


def stale_rows(
    layout: Layout, before: Generation, items: ItemTable, tables: Mapping[Block, VectorTable]
) -> Int64[np.ndarray, " n"]:
    """Row numbers, ascending, of items edited since a generation, and of those with a content that got a vector since.

    The latter had lost a vector, or never had one, and were encoded anew without being edited.
    """
    stale = [items.changed_since(before.manifest.items_version)]
    for block, table in tables.items():
        built_from = before.manifest.vector_versions.get(layout.vectors(block.space).name, 0)
        # A table that was set back or made anew has versions that say nothing about what was there.
        fresh = KeyIndex(table.newer_than(built_from if built_from <= (table.version or 0) else 0))
        if len(fresh):
            stale += [rows[fresh.find(keys) >= 0] for rows, keys in items.content_keys(block.modality)]
    return np.unique(np.concatenate(stale))
