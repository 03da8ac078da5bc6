"""What the store has of the items that come in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmrec.items import Item, Reject, Removal
from mmrec.store.earlier import Earlier
from mmrec.store.items import ItemTable
from mmrec.store.quarantine import Quarantined
from mmrec.store.stored_item import StoredField, StoredItem

__all__ = ["Known", "Lookup", "chunks"]

ITEMS_PER_LOOKUP = 512
BYTES_PER_LOOKUP = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """An item, and what the store has of it.

    Attributes:
        item: The item as it came in.
        before: Its fields as stored, by column and URI.
        stored: Its row; None where it has none.
        ailing: Contents of it that were in quarantine and may have recovered: column and URI.

    """

    item: Item
    before: dict[tuple[str, str | None], StoredField]
    stored: StoredItem | None
    ailing: frozenset[tuple[str, str | None]]

    @property
    def text(self) -> str | None:
        """The text that stands for the item."""
        return next((content.text for content in self.item.fields if content.text is not None), None)

    @property
    def without_contents(self) -> "Known":
        """The same without bytes that the source gave."""
        fields = tuple(replace(content, data=None) for content in self.item.fields)
        return replace(self, item=replace(self.item, fields=fields))

    @property
    def size_in_hand(self) -> int:
        """Bytes of contents that the source gave with the item."""
        return _size_in_hand(self.item)


class Lookup:
    """The items of a store and its quarantine, as they were when a run began."""

    def __init__(self, items: ItemTable, earlier: Earlier, *, afresh: bool = False) -> None:
        """Take the store; `afresh` if what quarantine holds is to be read again though its files are the same."""
        self._items = items
        self._earlier = earlier
        self._afresh = afresh

    def find(self, items: Sequence[Item]) -> Iterator[Known]:
        """What is known of each item; of those of which nothing could be used, only what quarantine knows."""
        ids = [item.id for item in items]
        stored = self._items.by_id(ids)
        bad = self._earlier.of_ids(ids)
        for item in items:
            found = stored.get(item.id)
            entries = [entry for entry in bad.get(item.id, ()) if entry.hash is not None]
            ailing = frozenset((entry.column, entry.uri) for entry in entries)
            before = found.fields if found else _as_stored(item, entries)
            known = {(one.column, one.uri): one for one in before}
            if self._afresh:
                known = {place: one for place, one in known.items() if place not in ailing}
            yield Known(item, known, found, ailing)


def chunks(source: Iterable[Item | Removal | Reject]) -> Iterator[list[Item | Removal | Reject]]:
    """Rows in pieces that are looked up at once, of bounded number and size."""
    chunk: list[Item | Removal | Reject] = []
    size = 0
    for row in source:
        chunk.append(row)
        size += _size_in_hand(row) if isinstance(row, Item) else 0
        if len(chunk) >= ITEMS_PER_LOOKUP or size >= BYTES_PER_LOOKUP:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size_in_hand(item: Item) -> int:
    return sum(len(content.data or b"") + len(content.text or "") for content in item.fields)


def _as_stored(item: Item, bad: Sequence[Quarantined]) -> list[StoredField]:
    modalities = {(content.column, content.uri): content.modality for content in item.fields}
    return [
        StoredField(
            modalities[entry.column, entry.uri], entry.column, entry.hash, entry.uri, entry.size, entry.mtime_ns
        )
        for entry in bad
        if (entry.column, entry.uri) in modalities
    ]
