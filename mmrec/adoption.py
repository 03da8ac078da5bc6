"""A store moves to other encoders, while the generation before goes on serving."""

from collections.abc import Sequence
from dataclasses import replace

from mmrec.embedding.stored import check_within_reach, stored_items
from mmrec.embedding.tally import Tally
from mmrec.encoders.protocol import Encoder
from mmrec.indexing import Indexing, index_items
from mmrec.store.generations import Manifest
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout

__all__ = ["adopt"]

_ROUNDS = 3


def adopt(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> tuple[Tally, Manifest]:
    """Encode all items of a store with other encoders, from where their contents lie, and publish that.

    Nothing is removed. Items that others add or change meanwhile are encoded with the store's encoders of then; they
    are taken up in a further round, so that none is lost to the new space.

    Args:
        layout: The store.
        encoders: What it moves to.
        how: As for `index_items`; `delta` is set.

    Returns what the first round did, and the generation that is now current.

    Raises UsageError where the store has no item or a content is out of reach, and as `index_items`.

    """
    check_within_reach(layout, how.media)
    how = replace(how, delta=True)
    tally, made = _once(layout, encoders, how)
    for _ in range(_ROUNDS - 1):
        again, made = _once(layout, encoders, how)
        if not again.encoded:
            break
    return tally, made


def _once(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> tuple[Tally, Manifest]:
    return index_items(stored_items(layout), ItemTable(layout.items).metadata_schema, layout, encoders, how)
