"""What the store has of the items that come in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmrec.items import Item, Reject, Removal
from mmrec.store.items import ItemTable, StoredField
from mmrec.store.quarantine import Quarantined

__all__ = ["Known", "Lookup", "chunks"]

ITEMS_PER_LOOKUP = 512
BYTES_PER_LOOKUP = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """An item, and what the store has of it.

    Attributes:
        item: The item as it came in.
        before: Its fields as stored, by column and URI.
        digest: Digest of its row; None where it has none.

    """

    item: Item
    before: dict[tuple[str, str | None], StoredField]
    digest: bytes | None

    @property
    def size_in_hand(self) -> int:
        """Bytes of contents that the source gave with the item."""
        return _size_in_hand(self.item)


class Lookup:
    """The items of a store and its quarantine, as they were when a run began."""

    def __init__(self, items: ItemTable, earlier: Iterable[Quarantined]) -> None:
        self._items = items
        self._bad: dict[str, list[Quarantined]] = {}
        for entry in earlier:
            if entry.id is not None and entry.hash is not None:
                self._bad.setdefault(entry.id, []).append(entry)

    def find(self, items: Sequence[Item]) -> Iterator[Known]:
        """What is known of each item; of those of which nothing could be used, only what quarantine knows."""
        stored = self._items.by_id([item.id for item in items])
        for item in items:
            found = stored.get(item.id)
            before = found.fields if found else _as_stored(item, self._bad.get(item.id, []))
            yield Known(item, {(one.column, one.uri): one for one in before}, found.digest if found else None)


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
