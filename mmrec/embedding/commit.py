"""Commit a run: item rows, removals and quarantine entries into the tables, under the commit lock."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np

from mmrec.embedding.contents import ContentKey, Fresh, Tally, key_of
from mmrec.embedding.retry import can_be_retried
from mmrec.errors import UsageError
from mmrec.sources.rows import SeenIds
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import PATIENCE_SECONDS, commit_lock
from mmrec.storage.quarantine import (
    Quarantined,
    QuarantineSnapshot,
    StagedQuarantine,
    amend_quarantine,
    count_quarantined,
    dump_item,
    later_than,
    quarantined_of,
    read_quarantine,
    replace_quarantine,
)
from mmrec.storage.staging import StagedItems, commit_items, remove_items
from mmrec.storage.stored_item import StoredField, StoredItem
from mmrec.types import Value


class Refusals:
    """The quarantine entries of one run, gathered on disk.

    Equal contents are encoded once, for the first item that has them; the others fail where it fails.
    """

    def __init__(self, staged: StagedQuarantine) -> None:
        """Begin a run."""
        self._staged = staged
        self._refused_ids = SeenIds()
        self._some_have_no_id = False
        self._late: set[str] = set()
        self._failed: dict[int, tuple[str, bool]] = {}
        self._reasons: dict[tuple[str, bool], tuple[str, bool]] = {}
        self._waiting: dict[ContentKey, int] = {}
        self._duplicates_in_flight: dict[ContentKey, list[Quarantined]] = {}
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

    def queue(self, fresh: Fresh) -> None:
        """Note a content that goes to its encoders."""
        self._waiting[fresh.modality, fresh.hash] = len(fresh.samples)

    def add_duplicate(self, entry: Quarantined) -> None:
        """Note an item whose content is being encoded for another item."""
        key = key_of(entry)
        failure = self._failed.get(hash(key))
        if failure is not None:
            self._fail_duplicate(entry, failure)
        elif key not in self._encoded:
            self._duplicates_in_flight.setdefault(key, []).append(entry)

    def done(self, entry: Quarantined) -> None:
        """Note that one encoder has encoded a content."""
        key = key_of(entry)
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            if hash(key) not in self._failed:
                self._encoded.add(key)
                self._duplicates_in_flight.pop(key, None)

    def fail(self, entry: Quarantined) -> None:
        """Add entries of a content that an encoder could not encode, for every item that has it."""
        if hash(key_of(entry)) not in self._failed:
            self._add_late(entry)
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

    def late_ids(self) -> list[str]:
        """Ids of the items of which a content failed after their row was staged."""
        return sorted(self._late)

    def all_failed(self, fields: Iterable[StoredField]) -> bool:
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
        for duplicate in self._duplicates_in_flight.pop(key, ()):
            self._fail_duplicate(duplicate, failure)

    def _fail_duplicate(self, duplicate: Quarantined, failure: tuple[str, bool]) -> None:
        self._add_late(replace(duplicate, reason=failure[0], transient=failure[1]))

    def _add_late(self, entry: Quarantined) -> None:
        self._add(entry)
        if entry.id is not None:
            self._late.add(entry.id)
            if entry.id in self._unchanged:
                self._unchanged[entry.id][1].discard((entry.column, entry.uri))


EntryLocation: TypeAlias = tuple[str | None, str, str]
"""Identifies an entry without an id: where it is, its column, and the reason."""

FEW = 1000
"""A run over no more ids than this changes the quarantine where it must, and leaves the rest of it alone."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run may change; see `EmbeddingJob`."""

    keep_missing: bool
    delta: bool
    prune: bool
    retry: bool
    yields: bool


@dataclass
class SeenInRun:
    """The ids that a run has seen.

    Attributes:
        items: Ids of its items.
        few: The same and those of rejected rows, None once they are more than `FEW`.
        unusable: Ids of items in the store of which nothing can be used any more.
        marked: Ids that the source marks as deleted.
        hides_rows: Whether a part of the source could not be read: what it lacks may hide there.

    """

    items: SeenIds = field(default_factory=SeenIds)
    few: set[str] | None = field(default_factory=set)
    unusable: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    hides_rows: bool = False

    def note(self, name: str | None) -> None:
        """Note the id of any row."""
        if self.few is not None and name is not None:
            self.few.add(name)
            self.few = self.few if len(self.few) <= FEW else None


@dataclass(frozen=True)
class RunExclusions:
    """The quarantine entries of a run that are to be committed.

    Attributes:
        refusals: All entries of the run.
        described: Items of which nothing is left, by id, as JSON.
        newer: Ids of items that others changed meanwhile: entries of their contents are dropped.

    """

    refusals: Refusals
    described: Mapping[str, str]
    newer: Collection[str]

    def entries(self) -> Iterator[Quarantined]:
        """All entries for the quarantine. A row that is no item stays an error of the source, whatever its id."""
        for entry in self.refusals.entries(self.described):
            if entry.modality is None or entry.id not in self.newer:
                yield entry

    @cached_property
    def count(self) -> int:
        """Number of entries."""
        return sum(1 for _ in self.entries()) if self.newer else self.refusals.count

    @cached_property
    def without_id(self) -> Collection[EntryLocation]:
        """Places of entries without an id."""
        return {_location(entry) for entry in self.entries() if entry.id is None}


@dataclass
class Commit:
    """The state of a run that its commit needs."""

    layout: Layout
    before: ItemTable
    quarantine_before: QuarantineSnapshot
    tally: Tally
    rules: Rules
    seen: SeenInRun = field(default_factory=SeenInRun)

    def end(self, staged: StagedItems, refusals: Refusals) -> None:
        """Put rows, removals and quarantine into the tables. Close both first.

        Raises UsageError, and changes nothing, where more than half of the items would go and `prune` is not set.
        """
        with commit_lock(self.layout.lock, PATIENCE_SECONDS):
            now = ItemTable(self.layout.items)
            gone = self._gone(changed_meanwhile=now.ids_changed_since(self.before.version))
            stored, dropped, described = self._lost(now, staged, refusals)
            newer = self._newer(now) if self.rules.yields else set()
            self._drop(staged, dropped | newer, in_store=set(stored) | set(self.before.by_id(sorted(newer))))
            gone = set() if self.rules.retry else gone | (stored - newer)
            self._check_removals(len(gone - self.seen.marked))
            commit_items(self.layout.items, staged)
            self.tally.removed = remove_items(self.layout.items, sorted(gone))
            self._quarantine(RunExclusions(refusals, described, newer))

    def _quarantine(self, found: RunExclusions) -> None:
        path, few = self.layout.quarantine, self.seen.few
        self.tally.quarantined = found.count
        if self.rules.delta and not found.without_id and few is not None:
            staying = [one for one in quarantined_of(path, few) if self._stays(one, found, meanwhile=False)]
            amend_quarantine(path, few, chain(found.entries(), staying))
        elif found.count or count_quarantined(path):
            replace_quarantine(path, chain(found.entries(), self._staying(found)))

    def _check_removals(self, gone: int) -> None:
        there = len(self.before)
        if gone * 2 > there and not self.rules.prune:
            raise UsageError(
                f"this source would remove {gone:,} of the store's {there:,} items, as it lacks them or they cannot be "
                "read; nothing was changed. If that is meant, index with --prune; to keep them, with --keep-missing"
            )

    def _lost(
        self, now: ItemTable, staged: StagedItems, refusals: Refusals
    ) -> tuple[set[str], set[str], dict[str, str]]:
        """Items of which nothing is left: those in the table, those staged, and what the latter were."""
        late = refusals.late_ids()
        if not late:
            return set(), set(), {}
        stored, fresh = now.by_id(late), staged.items(late)
        lost = {name for name, item in (stored | fresh).items() if refusals.all_failed(item.fields)}
        described = {name: dump_item(one.text, one.metadata) for name, one in (stored | fresh).items() if name in lost}
        return lost & stored.keys(), lost & fresh.keys(), described

    def _drop(self, staged: StagedItems, names: set[str], in_store: set[str]) -> None:
        dropped = staged.drop(names)
        known = sum(name in in_store for name in dropped)
        self.tally.added -= len(dropped) - known
        self.tally.changed -= known

    def _gone(self, changed_meanwhile: set[str]) -> set[str]:
        """Items that are no longer in the source, or of which nothing can be used any more.

        What others have added or edited since this run began is newer than its source, and stays.
        """
        gone = self.seen.unusable | self.seen.marked
        if not self._keeps:
            gone.update(known for batch in self.before.ids() for known in batch if known not in self.seen.items)
        return gone - changed_meanwhile

    def _newer(self, now: ItemTable) -> set[str]:
        """Items that others have added, edited or deleted since this run began."""
        if now.version == self.before.version:
            return set()
        # A new or widened column marks all rows as changed; only the digest says whether one is.
        changed: set[str] = set()
        for some in now.digests_changed_since(self.before.version):
            old = self.before.by_id(list(some))
            changed.update(name for name, digest in some.items() if name not in old or old[name].digest != digest)
        deleted = np.setdiff1d(self.before.rows(), now.rows(), assume_unique=True)
        return changed | {item.id for item in self.before.by_row(deleted.tolist()).values()}

    @property
    def _keeps(self) -> bool:
        """Whether items that the source does not name stay."""
        return self.rules.keep_missing or self.rules.delta or self.seen.hides_rows

    def _stays(self, entry: Quarantined, found: RunExclusions, *, meanwhile: bool) -> bool:
        """Whether an entry that is in the table stays there beside those of this run.

        The first that holds decides; `meanwhile` if others wrote it while this run was under way:

        - without an id, found again by this run: no
        - without an id: where written meanwhile, or this run is no whole source and so did not look at its row
        - of an item that others changed meanwhile: yes, as their item stays too
        - of an item that this run looked at: only where a retry has no way to look at what the entry is of
        - of an id of which this run only saw rows that are no items: where it is of a content, which was not read
        - of an id that this run did not see: where the item stays, or it was written meanwhile
        """
        if entry.id is None:
            return _location(entry) not in found.without_id and (meanwhile or self.rules.delta or self.rules.retry)
        if entry.id in found.newer:
            return True
        if entry.id in self.seen.items:
            return self.rules.retry and not can_be_retried(entry)
        if found.refusals.has_entry_of(entry.id):
            return self._keeps and entry.modality is not None
        return self._keeps or meanwhile

    def _staying(self, found: RunExclusions) -> Iterator[Quarantined]:
        """Entries in the table that stay there; where a whole source replaces all, of those written meanwhile."""
        path = self.layout.quarantine
        if not self._keeps:
            return (
                entry for entry in later_than(self.quarantine_before, path) if self._stays(entry, found, meanwhile=True)
            )
        return (entry for entry in read_quarantine(path) if self._stays(entry, found, meanwhile=False))


def _location(entry: Quarantined) -> EntryLocation:
    return entry.where, entry.column, entry.reason
