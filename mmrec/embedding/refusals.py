"""What a run leaves out, and whom that concerns: the item at hand, and all others with the same content."""

from collections.abc import Iterable
from dataclasses import replace

from mmrec.catalog.seen import SeenIds
from mmrec.embedding.contents import Fresh, content_key, key_of
from mmrec.store.items import StoredField, StoredItem
from mmrec.store.quarantine import Quarantined

__all__ = ["Refusals"]


class Refusals:
    """The quarantine entries of one run.

    Equal contents are encoded once, for the item that claims them first; the others borrow, and share its failure.
    """

    def __init__(self, earlier: Iterable[Quarantined]) -> None:
        """Begin a run. `earlier` are the entries of the run before."""
        self.entries: list[Quarantined] = []
        self._late: list[Quarantined] = []
        self._failed: dict[str, Quarantined] = {}
        self._waiting: dict[str, int] = {}
        self._borrowed: dict[str, list[Quarantined]] = {}
        self._encoded = SeenIds()
        self._ailing: dict[str, set[tuple[str, str | None]]] = {}
        for entry in earlier:
            if entry.id is not None and entry.hash is not None:
                self._ailing.setdefault(entry.id, set()).add((entry.column, entry.uri))
        self._spared: dict[str, StoredItem] = {}

    def refuse(self, entry: Quarantined) -> None:
        """Leave out a source row, or a content that was never sent to an encoder."""
        self.entries.append(entry)
        if entry.hash is not None:
            self._settle(entry)

    def queue(self, fresh: Fresh) -> None:
        """Note a content that goes to its encoders."""
        self._waiting[content_key(fresh.modality, fresh.hash)] = len(fresh.samples)

    def borrow(self, entry: Quarantined) -> None:
        """Note an item that relies on another having the same content encoded, while that is open."""
        key = key_of(entry)
        if key in self._failed:
            self._blame(entry, self._failed[key])
        elif key not in self._encoded:
            self._borrowed.setdefault(key, []).append(entry)

    def done(self, entry: Quarantined) -> None:
        """Note that one encoder has encoded a content."""
        key = key_of(entry)
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            if key not in self._failed:
                self._encoded.add(key)
                self._borrowed.pop(key, None)

    def fail(self, entry: Quarantined) -> None:
        """Leave out a content that an encoder could not encode, for everyone who has it."""
        if key_of(entry) not in self._failed:
            self._late.append(entry)
            self._settle(entry)
        self.done(entry)

    def spare(self, item: StoredItem) -> None:
        """Note an item that is as it was, in case that it has recovered."""
        if item.id in self._ailing:
            self._spared[item.id] = item

    def close(self) -> list[StoredItem]:
        """End the run. Returns items that are as they were, but of which a content is no longer refused."""
        self.entries.extend(self._late)
        for entry in self.entries:
            if entry.id in self._ailing:
                self._ailing[entry.id].discard((entry.column, entry.uri))
        return [item for item in self._spared.values() if self._ailing[item.id]]

    def late_ids(self) -> list[str]:
        """Ids of the items of which a content failed after their row was staged."""
        return sorted({entry.id for entry in self._late if entry.id})

    def all_failed(self, fields: Iterable[StoredField]) -> bool:
        """Whether no content of an item is left."""
        return all(one.hash is not None and content_key(one.modality, one.hash) in self._failed for one in fields)

    def _settle(self, entry: Quarantined) -> None:
        key = key_of(entry)
        self._failed[key] = entry
        for borrower in self._borrowed.pop(key, ()):
            self._blame(borrower, entry)

    def _blame(self, borrower: Quarantined, failure: Quarantined) -> None:
        self._late.append(replace(borrower, reason=failure.reason, transient=failure.transient))
