"""What a run leaves out, and whom that concerns: the item at hand, and all others with the same content."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from mmrec.catalog.seen import SeenIds
from mmrec.embedding.contents import Fresh, content_key, key_of
from mmrec.items import Value
from mmrec.store.quarantine import Quarantined, StagedQuarantine, dump_item
from mmrec.store.stored_item import StoredField, StoredItem

__all__ = ["Ailing", "Refusals"]

Ailing = frozenset[tuple[str, str | None]]
"""Contents of an item that quarantine held before: column and URI."""


class Refusals:
    """The quarantine entries of one run, gathered on disk.

    Equal contents are encoded once, for the item that claims them first; the others borrow, and share its failure.
    """

    def __init__(self, staged: StagedQuarantine) -> None:
        """Begin a run."""
        self._staged = staged
        self._concerned = SeenIds()
        self._some_have_no_id = False
        self._late: set[str] = set()
        self._failed: dict[int, tuple[str, bool]] = {}
        self._reasons: dict[tuple[str, bool], tuple[str, bool]] = {}
        self._waiting: dict[str, int] = {}
        self._borrowed: dict[str, list[Quarantined]] = {}
        self._encoded = SeenIds()
        self._spared: dict[str, tuple[StoredItem, set[tuple[str, str | None]]]] = {}

    @property
    def count(self) -> int:
        """Number of entries."""
        return self._staged.count

    def refuse(self, entry: Quarantined) -> None:
        """Leave out a source row, or a content that was never sent to an encoder."""
        self._add(entry)
        if entry.hash is not None:
            self._settle(entry)

    def refuse_all(self, entries: Iterable[Quarantined], text: str | None, metadata: Mapping[str, Value]) -> None:
        """Leave out an item of which no content can be used; what it was is kept beside the reasons."""
        item = dump_item(text, metadata)
        for entry in entries:
            self.refuse(replace(entry, item=item))

    def queue(self, fresh: Fresh) -> None:
        """Note a content that goes to its encoders."""
        self._waiting[content_key(fresh.modality, fresh.hash)] = len(fresh.samples)

    def borrow(self, entry: Quarantined) -> None:
        """Note an item that relies on another having the same content encoded, while that is open."""
        key = key_of(entry)
        failure = self._failed.get(_short(key))
        if failure is not None:
            self._blame(entry, failure)
        elif key not in self._encoded:
            self._borrowed.setdefault(key, []).append(entry)

    def done(self, entry: Quarantined) -> None:
        """Note that one encoder has encoded a content."""
        key = key_of(entry)
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            if _short(key) not in self._failed:
                self._encoded.add(key)
                self._borrowed.pop(key, None)

    def fail(self, entry: Quarantined) -> None:
        """Leave out a content that an encoder could not encode, for everyone who has it."""
        if _short(key_of(entry)) not in self._failed:
            self._leave_out_late(entry)
            self._settle(entry)
        self.done(entry)

    def spare(self, item: StoredItem, ailing: Ailing, refused: Collection[Quarantined]) -> None:
        """Note an item that is as it was, in case that what ailed before and is not `refused` again has recovered."""
        open_still = set(ailing) - {(entry.column, entry.uri) for entry in refused}
        if open_still:
            self._spared[item.id] = (item, open_still)

    def close(self) -> list[StoredItem]:
        """End the run. Returns items that are as they were, but of which a content is no longer refused."""
        self._staged.close()
        return [item for item, recovered in self._spared.values() if recovered]

    def late_ids(self) -> list[str]:
        """Ids of the items of which a content failed after their row was staged."""
        return sorted(self._late)

    def all_failed(self, fields: Iterable[StoredField]) -> bool:
        """Whether no content of an item is left."""
        return all(
            one.hash is not None and _short(content_key(one.modality, one.hash)) in self._failed for one in fields
        )

    def entries(self, items: Mapping[str, str]) -> Iterable[Quarantined]:
        """All entries; those of the given items, of which nothing is left, with what they were. Close first."""
        for entry in self._staged:
            item = None if entry.id is None else items.get(entry.id)
            yield entry if item is None else replace(entry, item=item)

    def concern(self, name: str | None) -> bool:
        """Whether any entry is of this id, or of a row without one."""
        return self._some_have_no_id if name is None else name in self._concerned

    def _add(self, entry: Quarantined) -> None:
        self._staged.add(entry)
        if entry.id is None:
            self._some_have_no_id = True
        else:
            self._concerned.add(entry.id)

    def _settle(self, entry: Quarantined) -> None:
        failure = (entry.reason, entry.transient)
        key = key_of(entry)
        self._failed[_short(key)] = self._reasons.setdefault(failure, failure)  # many contents, few reasons
        for borrower in self._borrowed.pop(key, ()):
            self._blame(borrower, failure)

    def _blame(self, borrower: Quarantined, failure: tuple[str, bool]) -> None:
        self._leave_out_late(replace(borrower, reason=failure[0], transient=failure[1]))

    def _leave_out_late(self, entry: Quarantined) -> None:
        self._add(entry)
        if entry.id is not None:
            self._late.add(entry.id)
            if entry.id in self._spared:
                self._spared[entry.id][1].discard((entry.column, entry.uri))


def _short(key: str) -> int:
    """A content's key in a number that takes a third of its memory; hashes of 128 bits are cut to 60."""
    modality, _, digest = key.partition(":")
    return int(digest[:15] or "0", 16) * 4 + {"text": 1, "image": 2, "audio": 3}.get(modality, 0)
