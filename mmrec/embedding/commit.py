"""Commit a run: item rows, removals and quarantine entries into the tables, under the commit lock."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np

from mmrec.embedding.contents import Tally
from mmrec.embedding.retry import can_be_retried
from mmrec.embedding.run_quarantine import RunQuarantine
from mmrec.errors import UsageError
from mmrec.sources.rows import SeenIds
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock
from mmrec.storage.quarantine import (
    Quarantined,
    QuarantineSnapshot,
    added_since,
    amend_quarantine,
    count_quarantined,
    dump_item,
    quarantined_items,
    read_quarantine,
    replace_quarantine,
)
from mmrec.storage.staging import StagedItems, commit_items, remove_items

EntryLocation: TypeAlias = tuple[str | None, str, str]
"""Identifies an entry without an id: where it is, its column, and the reason."""

MAX_TRACKED_IDS = 1000
"""A run over no more ids than this changes only their entries in the quarantine; a larger one rewrites it."""


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """What a run may change in a store.

    Attributes:
        keep_missing: Keep items that the source no longer has.
        changes_only: The source holds changes alone: items that it does not name stay, with their quarantine entries.
        prune: The source may remove more than half of the items; otherwise that is an error.
        retry: Read and decode again what is in quarantine, though its file has not changed.
        keep_concurrent_changes: Where others changed an item during the run, their version stays.

    """

    keep_missing: bool = False
    changes_only: bool = False
    prune: bool = False
    retry: bool = False
    keep_concurrent_changes: bool = False


@dataclass
class RunState:
    """What a run has seen of its source.

    Attributes:
        items: Ids of its items.
        tracked: Ids of all rows, rejected ones included; None once there are more than `MAX_TRACKED_IDS`.
        unusable: Ids of stored items of which nothing can be used any more.
        removed: Ids that the source marks as deleted.
        is_incomplete: A part of the source could not be read, so an item that it lacks may not be missing.

    """

    items: SeenIds = field(default_factory=SeenIds)
    tracked: set[str] | None = field(default_factory=set)
    unusable: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    is_incomplete: bool = False

    def note(self, name: str | None) -> None:
        """Note the id of any row."""
        if self.tracked is not None and name is not None:
            self.tracked.add(name)
            self.tracked = self.tracked if len(self.tracked) <= MAX_TRACKED_IDS else None


@dataclass(frozen=True)
class EntriesToCommit:
    """The quarantine entries of a run that are to be committed.

    Attributes:
        run: All entries of the run.
        descriptions: Items without usable content, by id, as JSON.
        changed_by_others: Ids of items that others changed during the run: entries of their contents are dropped.

    """

    run: RunQuarantine
    descriptions: Mapping[str, str]
    changed_by_others: Collection[str]

    def entries(self) -> Iterator[Quarantined]:
        """All entries for the quarantine. A row that is no item stays an error of the source, whatever its id."""
        for entry in self.run.entries(self.descriptions):
            if entry.modality is None or entry.id not in self.changed_by_others:
                yield entry

    @cached_property
    def count(self) -> int:
        """Number of entries."""
        return sum(1 for _ in self.entries()) if self.changed_by_others else self.run.count

    @cached_property
    def without_id(self) -> Collection[EntryLocation]:
        """Places of entries without an id."""
        return {_location(entry) for entry in self.entries() if entry.id is None}


@dataclass(frozen=True, slots=True)
class _LostItems:
    """Items whose last usable content failed after their row was staged.

    Attributes:
        stored: Ids of those in the table.
        staged: Ids of those staged by this run.
        descriptions: Text and metadata of both, by id, as JSON.

    """

    stored: frozenset[str] = frozenset()
    staged: frozenset[str] = frozenset()
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Commit:
    """Commits one run.

    Attributes:
        layout: The store.
        before: The items as they were when the run began.
        quarantine_before: The quarantine as it was then.
        tally: Counts of the run; those of additions, changes, removals and quarantine are completed here.
        rules: What the run may change.
        state: What the run has seen of its source.

    """

    layout: Layout
    before: ItemTable
    quarantine_before: QuarantineSnapshot
    tally: Tally
    rules: ChangeRules
    state: RunState = field(default_factory=RunState)

    def commit(self, staged: StagedItems, run: RunQuarantine) -> None:
        """Write rows, removals and quarantine entries. Call `close` of both arguments before.

        Raises UsageError, and changes nothing, where more than half of the items would go and `prune` is not set.
        """
        with file_lock(self.layout.lock, JOB_WAIT_SECONDS):
            now = ItemTable(self.layout.items)
            to_remove = self._ids_to_remove(changed_meanwhile=now.ids_changed_since(self.before.version))
            lost = self._lost_items(now, staged, run)
            changed = self._changed_by_others(now) if self.rules.keep_concurrent_changes else set()
            stored_before = lost.stored | self.before.by_id(sorted(changed)).keys()
            self._unstage(staged, lost.staged | changed, stored_before)
            to_remove = set() if self.rules.retry else to_remove | (lost.stored - changed)
            self._check_removals(len(to_remove - self.state.removed))
            commit_items(self.layout.items, staged)
            self.tally.removed = remove_items(self.layout.items, sorted(to_remove))
            self._commit_quarantine(EntriesToCommit(run, lost.descriptions, changed))

    def _commit_quarantine(self, entries: EntriesToCommit) -> None:
        path, tracked = self.layout.quarantine, self.state.tracked
        self.tally.quarantined = entries.count
        if self.rules.changes_only and not entries.without_id and tracked is not None:
            kept = [one for one in quarantined_items(path, tracked) if self._keeps(one, entries, meanwhile=False)]
            amend_quarantine(path, tracked, chain(entries.entries(), kept))
        elif entries.count or count_quarantined(path):
            replace_quarantine(path, chain(entries.entries(), self._kept_entries(entries)))

    def _check_removals(self, count: int) -> None:
        items = len(self.before)
        if count * 2 > items and not self.rules.prune:
            raise UsageError(
                f"this source would remove {count:,} of the store's {items:,} items, as it lacks them or they cannot "
                "be read; nothing was changed. If you intend this, run again with --prune. To keep these items, "
                "run with --keep-missing"
            )

    def _lost_items(self, now: ItemTable, staged: StagedItems, run: RunQuarantine) -> _LostItems:
        failed = run.ids_failed_after_staging()
        if not failed:
            return _LostItems()
        stored, new = now.by_id(failed), staged.items(failed)
        lost = {name: item for name, item in (stored | new).items() if run.has_no_usable_content(item.fields)}
        descriptions = {name: dump_item(item.text, item.metadata) for name, item in lost.items()}
        return _LostItems(frozenset(lost.keys() & stored.keys()), frozenset(lost.keys() & new.keys()), descriptions)

    def _unstage(self, staged: StagedItems, names: Collection[str], stored_before: Collection[str]) -> None:
        """Drop rows that were staged, and take them out of the counts."""
        dropped = staged.drop(names)
        changed = sum(name in stored_before for name in dropped)
        self.tally.added -= len(dropped) - changed
        self.tally.changed -= changed

    def _ids_to_remove(self, changed_meanwhile: set[str]) -> set[str]:
        """Stored items that are no longer in the source, or of which nothing can be used any more.

        What others have added or edited since this run began is newer than its source, and stays.
        """
        ids = self.state.unusable | self.state.removed
        if not self._keeps_missing:
            ids.update(known for batch in self.before.ids() for known in batch if known not in self.state.items)
        return ids - changed_meanwhile

    def _changed_by_others(self, now: ItemTable) -> set[str]:
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
    def _keeps_missing(self) -> bool:
        """Whether items that the source does not name stay."""
        return self.rules.keep_missing or self.rules.changes_only or self.state.is_incomplete

    def _keeps(self, entry: Quarantined, entries: EntriesToCommit, *, meanwhile: bool) -> bool:
        """Whether an entry that is in the table stays there beside those of this run; `meanwhile`: others wrote it.

        The first line that fits decides:

        ==========================================  ==============================================================
        The entry is                                It stays if
        ==========================================  ==============================================================
        without an id, and found again by this run  never: this run's entry replaces it
        without an id                               written meanwhile, or this run did not read the whole source
        of an item that others changed              always, as their item stays too
        of an item that this run read               this is a retry that could not look at its content
        of an id whose rows this run rejected       it is of a content, which was not read, and missing items stay
        of an id that this run did not see          missing items stay, or it was written meanwhile
        ==========================================  ==============================================================
        """
        if entry.id is None:
            reads_a_part = self.rules.changes_only or self.rules.retry
            return _location(entry) not in entries.without_id and (meanwhile or reads_a_part)
        if entry.id in entries.changed_by_others:
            return True
        if entry.id in self.state.items:
            return self.rules.retry and not can_be_retried(entry)
        if entries.run.has_entry_of(entry.id):
            return self._keeps_missing and entry.modality is not None
        return self._keeps_missing or meanwhile

    def _kept_entries(self, entries: EntriesToCommit) -> Iterator[Quarantined]:
        """Entries of the table that stay; where a whole source replaces all, only those written meanwhile can."""
        path = self.layout.quarantine
        meanwhile = not self._keeps_missing
        candidates = added_since(self.quarantine_before, path) if meanwhile else read_quarantine(path)
        return (entry for entry in candidates if self._keeps(entry, entries, meanwhile=meanwhile))


def _location(entry: Quarantined) -> EntryLocation:
    return entry.where, entry.column, entry.reason
