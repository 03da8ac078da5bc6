"""Items to retry: contents in quarantine that can be read again without the item's source."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmrec.sources.media_access import MediaAccess
from mmrec.sources.rows import SeenIds
from mmrec.sources.scalars import to_value
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import Quarantined, QuarantineSnapshot, read_quarantine
from mmrec.storage.stored_item import StoredItem, is_imported
from mmrec.types import Field, Item, Modality

IDS_PER_LOOKUP = 512

_ANYWHERE = MediaAccess()


def can_be_retried(entry: Quarantined) -> bool:
    """Whether an entry says where its content is; a source row that was no item can only come from its source."""
    if is_imported(entry.column):
        return False
    return entry.id is not None and entry.modality is not None and (entry.uri is not None or entry.modality == "text")


def items_to_retry(layout: Layout, media: MediaAccess = _ANYWHERE) -> Iterator[Item]:
    """The items of which something is in quarantine, made whole from the store alone, each once.

    An item needs its source where its text is not known (it never was in the store, or it had several texts), or
    where an image or audio of it was given as bytes, without an address.
    """
    table, quarantine, seen = ItemTable(layout.items), QuarantineSnapshot(layout.quarantine), SeenIds()
    names: list[str] = []
    for entry in read_quarantine(layout.quarantine, quarantine.version):
        if entry.id is None or not can_be_retried(entry) or entry.id in seen:
            continue
        seen.add(entry.id)
        names.append(entry.id)
        if len(names) == IDS_PER_LOOKUP:
            yield from _items(names, table, quarantine, media)
            names = []
    yield from _items(names, table, quarantine, media)


def _items(names: Sequence[str], table: ItemTable, snapshot: QuarantineSnapshot, media: MediaAccess) -> Iterator[Item]:
    stored, entries = table.by_id(names), snapshot.of_ids(names)
    for name in names:
        some = [entry for entry in entries[name] if can_be_retried(entry)]
        known = stored.get(name)
        text, metadata = (known.text, known.metadata) if known else _described(some, table.metadata_schema)
        fields = _fields(some, known, text, media)
        if fields:
            yield Item(name, tuple(fields), metadata, min(entry.source_row for entry in some))


def _fields(
    entries: Sequence[Quarantined], known: StoredItem | None, text: str | None, media: MediaAccess
) -> list[Field]:
    """All contents of an item; none where a text is not known, or a file that was good cannot be reached now."""
    failed = {(entry.column, entry.uri) for entry in entries}
    good = [one for one in (known.fields if known else ()) if one.uri and one.size is not None]
    if any(media.stat(one.uri or "") is None for one in good if (one.column, one.uri) not in failed):
        return []
    stored = [one for one in (known.fields if known else ()) if not is_imported(one.column)]
    if any(one.uri is None and one.modality != Modality.TEXT for one in stored):
        return []
    places = [(Modality(one.modality), one.column, one.uri) for one in stored]
    places += [(Modality(entry.modality or ""), entry.column, entry.uri) for entry in entries]
    fields: list[Field] = []
    texts = 0
    for modality, column, uri in dict.fromkeys(places):
        if modality is Modality.TEXT and uri is None:
            texts += 1
            if text is None or texts > 1:
                return []
            fields.append(Field(modality, column, text=text))
        elif uri is not None:
            fields.append(Field(modality, column, uri=uri))
    return fields


def _described(entries: Sequence[Quarantined], schema: pa.Schema) -> tuple[str | None, Mapping[str, Any]]:
    """Text and metadata of an item that is in no table, as quarantine kept them."""
    kept: dict[str, Any] = next(
        (json.loads(entry.item) for entry in entries if entry.item), {"text": None, "metadata": {}}
    )
    types = {column.name: column.type for column in schema}
    metadata = {name: to_value(value, types[name]) for name, value in kept["metadata"].items() if name in types}
    return kept["text"], metadata
