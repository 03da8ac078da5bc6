"""Reindex a store with other encoders while the generation before goes on serving."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mmrec.embedding.tally import Tally
from mmrec.encoders.protocol import Encoder
from mmrec.errors import UsageError
from mmrec.indexing import Indexing, index_items
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.declared import is_imported
from mmrec.storage.generations import Manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import StoredField, StoredItem, as_item
from mmrec.types import Field, Item, Modality

__all__ = ["adopt", "check_within_reach", "stored_items"]


def stored_items(layout: Layout) -> Iterator[Item]:
    """All items of a store with the contents they have, in the order of the table; see `check_within_reach` first.

    What could not be used before is among them, and is known by the job for what it is. Items that are nothing but
    imported vectors are not: there is nothing to encode.
    """
    for batch in ItemTable(layout.items).scan():
        for row in batch.to_pylist():
            item = as_item(row)
            if own := _own(item):
                known = {name: value for name, value in item.metadata.items() if value is not None}
                yield Item(item.id, tuple(_field(item, one) for one in own), known)


def check_within_reach(layout: Layout, media: MediaAccess) -> None:
    """See that all contents of a store can be read again, without reading them.

    A content that cannot be would be lost to the space that the store moves to. Raises UsageError with the first that
    is not, how many there are, and what to do.
    """
    lost: list[str] = []
    items = contents = 0
    with ThreadPoolExecutor(media.workers(4)) as threads:
        for batch in ItemTable(layout.items).scan():
            stored = [as_item(row) for row in batch.to_pylist()]
            items += len(stored)
            for item, faults in zip(stored, threads.map(lambda one: _faults(one, media), stored), strict=True):
                contents += len(faults)
                lost += [f"{item.id!r}: {fault}" for fault in faults if fault]
    if not items:
        raise UsageError(f"{layout.root} has no item to encode; index a catalog: mmrec index SOURCE {layout.root}")
    if lost:
        raise UsageError(
            f"{len(lost):,} of {contents:,} contents cannot be had from the store alone, {lost[0]}. Put files back "
            f"where they were, or index the catalog itself: mmrec index SOURCE {layout.root} --encoders ..."
        )


def _faults(item: StoredItem, media: MediaAccess) -> list[str]:
    """For each content of an item that is of use, what keeps it from being read again; empty where nothing does."""
    own = _own(item)
    texts = sum(field.modality is Modality.TEXT and field.uri is None for field in own)
    return [_fault(item, field, media, texts) for field in own if field.hash is not None]


def _fault(item: StoredItem, field: StoredField, media: MediaAccess, texts: int) -> str:
    if field.uri is not None:
        return "" if media.stat(field.uri) is not None else f"{field.uri} is out of reach"
    if field.modality is not Modality.TEXT:
        return f"its {field.column} was given by itself, without an address"
    if item.text is None or texts > 1:
        return f"of its {texts} texts the store keeps only the first"
    return ""


def _own(item: StoredItem) -> list[StoredField]:
    return [field for field in item.fields if not is_imported(field.column)]


def _field(item: StoredItem, stored: StoredField) -> Field:
    text = item.text or "" if stored.modality is Modality.TEXT and stored.uri is None else None
    return Field(stored.modality, stored.column, text=text, uri=stored.uri)


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
