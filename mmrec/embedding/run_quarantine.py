"""The quarantine entries of one run: gathered on disk, and completed as encoders report contents done or failed."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from mmrec.embedding.contents import ContentKey, PreparedContent, key_of
from mmrec.sources.rows import SeenIds
from mmrec.storage.quarantine import Quarantined, StagedQuarantine, dump_item
from mmrec.storage.stored_item import StoredField, StoredItem
from mmrec.types import Value


class RunQuarantine:
    """The quarantine entries of one run, gathered on disk.

    Equal contents are encoded once, for the first item that has them; the others fail if that fails. So each content
    that goes to encoders is announced by `queue`, each further item that has it by `add_duplicate`, and each encoder
    then reports `done` or `fail`. After `close`, `entries` gives all entries, and `ids_failed_after_staging` the items
    whose row was staged before one of their contents failed.
    """

    def __init__(self, staged: StagedQuarantine) -> None:
        """Begin a run."""
        self._staged = staged
        self._refused_ids = SeenIds()
        self._some_have_no_id = False
        self._failed_after_staging: set[str] = set()
        self._failed: dict[int, tuple[str, bool]] = {}  # hash of a content key, to save memory -> reason, transient
        self._reasons: dict[tuple[str, bool], tuple[str, bool]] = {}
        self._encoders_left: dict[ContentKey, int] = {}
        self._duplicates: dict[ContentKey, list[Quarantined]] = {}
        self._encoded = SeenIds()
        self._unchanged: dict[str, tuple[StoredItem, set[tuple[str, str | None]]]] = {}

    @property
    def count(self) -> int:
        """Number of entries."""
        return self._staged.count

    def refuse(self, entry: Quarantined) -> None:
        """Add the entry of a source row, or of a content that was never sent to an encoder."""
        self._add(entry)
        if entry.hash is not None:
            self._record_failure(entry)

    def refuse_all(self, entries: Iterable[Quarantined], text: str | None, metadata: Mapping[str, Value]) -> None:
        """Add the entries of an item of which no content can be used, with its text and metadata."""
        item = dump_item(text, metadata)
        for entry in entries:
            self.refuse(replace(entry, item=item))

    def queue(self, prepared: PreparedContent) -> None:
        """Note a content that goes to its encoders."""
        self._encoders_left[prepared.modality, prepared.hash] = len(prepared.samples)

    def add_duplicate(self, entry: Quarantined) -> None:
        """Note an item whose content is being encoded for another item."""
        key = key_of(entry)
        failure = self._failed.get(hash(key))
        if failure is not None:
            self._fail_duplicate(entry, failure)
        elif key not in self._encoded:
            self._duplicates.setdefault(key, []).append(entry)

    def done(self, entry: Quarantined) -> None:
        """Note that one encoder has encoded a content."""
        key = key_of(entry)
        self._encoders_left[key] -= 1
        if not self._encoders_left[key]:
            del self._encoders_left[key]
            if hash(key) not in self._failed:
                self._encoded.add(key)
                self._duplicates.pop(key, None)

    def fail(self, entry: Quarantined) -> None:
        """Add entries of a content that an encoder could not encode, for every item that has it."""
        if hash(key_of(entry)) not in self._failed:
            self._add_after_staging(entry)
            self._record_failure(entry)
        self.done(entry)

    def keep_unchanged(
        self, item: StoredItem, failed_before: Collection[tuple[str, str | None]], refused: Collection[Quarantined]
    ) -> None:
        """Note an unchanged item whose contents in `failed_before` may have recovered, as far as not refused again."""
        unconfirmed = set(failed_before) - {(entry.column, entry.uri) for entry in refused}
        if unconfirmed:
            self._unchanged[item.id] = (item, unconfirmed)

    def close(self) -> list[StoredItem]:
        """End the run. Returns unchanged items of which a content is no longer refused."""
        self._staged.close()
        return [item for item, recovered in self._unchanged.values() if recovered]

    def ids_failed_after_staging(self) -> list[str]:
        """Ids of the items of which a content failed after their row was staged."""
        return sorted(self._failed_after_staging)

    def has_no_usable_content(self, fields: Iterable[StoredField]) -> bool:
        """Whether no content of an item is left."""
        return all(one.hash is not None and hash((str(one.modality), one.hash)) in self._failed for one in fields)

    def entries(self, items: Mapping[str, str]) -> Iterable[Quarantined]:
        """All entries; those of the given items, of which nothing is left, with their description. Close first."""
        for entry in self._staged:
            item = None if entry.id is None else items.get(entry.id)
            yield entry if item is None else replace(entry, item=item)

    def has_entry_of(self, name: str | None) -> bool:
        """Whether any entry is of this id, or of a row without one."""
        return self._some_have_no_id if name is None else name in self._refused_ids

    def _add(self, entry: Quarantined) -> None:
        self._staged.add(entry)
        if entry.id is None:
            self._some_have_no_id = True
        else:
            self._refused_ids.add(entry.id)

    def _record_failure(self, entry: Quarantined) -> None:
        failure = (entry.reason, entry.transient)
        key = key_of(entry)
        self._failed[hash(key)] = self._reasons.setdefault(failure, failure)  # many contents, few reasons
        for duplicate in self._duplicates.pop(key, ()):
            self._fail_duplicate(duplicate, failure)

    def _fail_duplicate(self, duplicate: Quarantined, failure: tuple[str, bool]) -> None:
        self._add_after_staging(replace(duplicate, reason=failure[0], transient=failure[1]))

    def _add_after_staging(self, entry: Quarantined) -> None:
        self._add(entry)
        if entry.id is not None:
            self._failed_after_staging.add(entry.id)
            if entry.id in self._unchanged:
                self._unchanged[entry.id][1].discard((entry.column, entry.uri))
