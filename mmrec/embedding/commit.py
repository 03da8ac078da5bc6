"""Commit a run: item rows, removals and quarantine entries into the tables, under the commit lock."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np

from mmrec.embedding.contents import Fresh, Tally, content_key, key_of
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
        self._duplicates_in_flight: dict[str, list[Quarantined]] = {}
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
            self._duplicates_in_flight.setdefault(key, []).append(entry)

    def done(self, entry: Quarantined) -> None:
        """Note that one encoder has encoded a content."""
        key = key_of(entry)
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            if _short(key) not in self._failed:
                self._encoded.add(key)
                self._duplicates_in_flight.pop(key, None)

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
        for borrower in self._duplicates_in_flight.pop(key, ()):
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


EntryLocation: TypeAlias = tuple[str | None, str, str]
"""What an entry without an id is known by: where it is, its column, and the reason."""

FEW = 1000
"""A run over no more ids than this changes the quarantine where it must, and leaves the rest of it alone."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run may change; see `EmbeddingJob` for each."""

    keep_missing: bool
    delta: bool
    prune: bool
    retry: bool
    yields: bool


@dataclass
class SeenInRun:
    """The ids that a run came across.

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
    """What a run leaves out.

    Attributes:
        refusals: All that it refused.
        remains: Items of which nothing is left, with what they were.
        newer: Ids of items that others changed meanwhile: what this run found in their contents is of no interest.

    """

    refusals: Refusals
    remains: Mapping[str, str]
    newer: Collection[str]

    def entries(self) -> Iterator[Quarantined]:
        """All that goes into quarantine. A row that is no item is a fault of the source, whatever became of its id."""
        for entry in self.refusals.entries(self.remains):
            if entry.modality is None or entry.id not in self.newer:
                yield entry

    @cached_property
    def count(self) -> int:
        """Number of entries."""
        return sum(1 for _ in self.entries()) if self.newer else self.refusals.count

    @cached_property
    def nameless(self) -> Collection[EntryLocation]:
        """Places of entries without an id."""
        return {_place(entry) for entry in self.entries() if entry.id is None}


@dataclass
class Commit:
    """What is needed to end a run."""

    layout: Layout
    before: ItemTable
    earlier: QuarantineSnapshot
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
            stored, dropped, remains = self._lost(now, staged, refusals)
            newer = self._newer(now) if self.rules.yields else set()
            self._drop(staged, dropped | newer, in_store=set(stored) | set(self.before.by_id(sorted(newer))))
            gone = set() if self.rules.retry else gone | (stored - newer)
            self._check_removals(len(gone - self.seen.marked))
            commit_items(self.layout.items, staged)
            self.tally.removed = remove_items(self.layout.items, sorted(gone))
            self._quarantine(RunExclusions(refusals, remains, newer))

    def _quarantine(self, found: RunExclusions) -> None:
        path, few = self.layout.quarantine, self.seen.few
        self.tally.quarantined = found.count
        if self.rules.delta and not found.nameless and few is not None:
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
        remains = {name: dump_item(one.text, one.metadata) for name, one in (stored | fresh).items() if name in lost}
        return lost & stored.keys(), lost & fresh.keys(), remains

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
        - of an id of which this run only met rows that are no items: where it is of a content, which no one looked at
        - of an id that this run did not meet: where the item stays, or it was written meanwhile
        """
        if entry.id is None:
            return _place(entry) not in found.nameless and (meanwhile or self.rules.delta or self.rules.retry)
        if entry.id in found.newer:
            return True
        if entry.id in self.seen.items:
            return self.rules.retry and not can_be_retried(entry)
        if found.refusals.concern(entry.id):
            return self._keeps and entry.modality is not None
        return self._keeps or meanwhile

    def _staying(self, found: RunExclusions) -> Iterator[Quarantined]:
        """Entries in the table that stay there; where a whole source replaces all, of those written meanwhile."""
        path = self.layout.quarantine
        if not self._keeps:
            return (entry for entry in later_than(self.earlier, path) if self._stays(entry, found, meanwhile=True))
        return (entry for entry in read_quarantine(path) if self._stays(entry, found, meanwhile=False))


def _place(entry: Quarantined) -> EntryLocation:
    return entry.where, entry.column, entry.reason
