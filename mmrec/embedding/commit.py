"""The end of a run: rows, removals and quarantine into the tables, under the lock."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np

from mmrec.catalog.seen import SeenIds
from mmrec.embedding.refusals import Refusals
from mmrec.embedding.retry import can_be_retried
from mmrec.embedding.tally import Tally
from mmrec.errors import UsageError
from mmrec.store.earlier import Earlier, later_than
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.lock import PATIENCE_SECONDS, commit_lock
from mmrec.store.quarantine import (
    Quarantined,
    amend_quarantine,
    count_quarantined,
    dump_item,
    quarantined_of,
    read_quarantine,
    replace_quarantine,
)
from mmrec.store.staging import StagedItems, commit_items, remove_items

__all__ = ["Commit", "Rules", "SeenInRun"]

Place: TypeAlias = tuple[str | None, str, str]
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
class Found:
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
    def nameless(self) -> Collection[Place]:
        """Places of entries without an id."""
        return {_place(entry) for entry in self.entries() if entry.id is None}


@dataclass
class Commit:
    """What is needed to end a run."""

    layout: Layout
    before: ItemTable
    earlier: Earlier
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
            self._quarantine(Found(refusals, remains, newer))

    def _quarantine(self, found: Found) -> None:
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

    def _stays(self, entry: Quarantined, found: Found, *, meanwhile: bool) -> bool:
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

    def _staying(self, found: Found) -> Iterator[Quarantined]:
        """Entries in the table that stay there; where a whole source replaces all, of those written meanwhile."""
        path = self.layout.quarantine
        if not self._keeps:
            return (entry for entry in later_than(self.earlier, path) if self._stays(entry, found, meanwhile=True))
        return (entry for entry in read_quarantine(path) if self._stays(entry, found, meanwhile=False))


def _place(entry: Quarantined) -> Place:
    return entry.where, entry.column, entry.reason
