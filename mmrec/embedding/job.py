"""A source into the store: what is new is encoded, what changed is replaced, what is gone is removed.

Threads read, hash, decode and prepare ahead while this thread encodes; results are taken in source order, so a run is
repeatable. Vectors are committed as they come; rows are staged on disk and committed at the end. A job that dies
loses no vector it committed, and the next run goes on from there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa

from mmrec.catalog.limits import Limits
from mmrec.catalog.media_access import MediaAccess
from mmrec.catalog.seen import SeenIds
from mmrec.embedding.ahead import ahead
from mmrec.embedding.contents import Contents, Outcome, key_of
from mmrec.embedding.encoding import Encoding
from mmrec.embedding.lookup import Known, Lookup, chunks
from mmrec.embedding.refusals import Refusals
from mmrec.embedding.writer import VectorWriter
from mmrec.encoders.protocol import Encoder
from mmrec.errors import UsageError
from mmrec.items import Item, Reject, Removal
from mmrec.modality import Modality
from mmrec.store.items import ItemTable, item_schema
from mmrec.store.layout import Layout
from mmrec.store.lock import PATIENCE_SECONDS, commit_lock
from mmrec.store.quarantine import Quarantined, quarantined, replace_quarantine
from mmrec.store.scratch import scratch_folder
from mmrec.store.staging import StagedItems, commit_items, remove_items
from mmrec.store.vectors import VectorTable

__all__ = ["EmbeddingJob", "Tally"]


@dataclass
class Tally:
    """What a run has done so far.

    Attributes:
        seen: Source rows taken.
        added: Items that are new.
        changed: Items whose contents, places or metadata changed.
        removed: Items that the source no longer has.
        read: Contents read from where they lie.
        encoded: Contents encoded, by modality.
        truncated: Contents cut to their model's limit, by modality.
        quarantined: Contents and rows left out.

    """

    seen: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    read: int = 0
    encoded: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0


@dataclass
class EmbeddingJob:
    """One run over a source. Use it once.

    Attributes:
        layout: The store.
        encoders: What encodes; several may share a modality.
        workers: Threads that read, decode and prepare.
        limits: Bounds on one content.
        media: How contents are read.
        report: Called with the running tally, often.
        keep_missing: Whether items that the source no longer has stay.
        delta: Whether the source holds changes alone: what it does not name stays as it is, quarantine included.
        modalities: What is encoded, as far as there is an encoder for it.
        prune: Whether the source may remove more than half of the items; else it is taken for broken.

    """

    layout: Layout
    encoders: Sequence[Encoder]
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    media: MediaAccess = field(default_factory=MediaAccess)
    report: Callable[[Tally], None] = lambda _: None
    keep_missing: bool = False
    modalities: frozenset[Modality] = frozenset(Modality)
    prune: bool = False
    delta: bool = False

    def __post_init__(self) -> None:
        self.tally = Tally()
        self._items = ItemTable(self.layout.items)
        self._earlier = quarantined(self.layout.quarantine)
        spaces = {space for encoder in self.encoders for some in encoder.spaces.values() for space in some}
        tables = {space: VectorTable(self.layout.vectors(space), space) for space in spaces}
        bad = {key_of(entry): entry for entry in self._earlier if entry.hash and not entry.transient}
        able = frozenset(modality for encoder in self.encoders for modality in encoder.spaces)
        self._contents = Contents(self.encoders, tables, bad, self.modalities & able, self.limits, self.media)
        self._writer = VectorWriter(self.layout)
        self._lookup = Lookup(self._items, self._earlier)
        self._refusals = Refusals(self._earlier)
        self._encoding = Encoding(self.encoders, self._writer, self._refusals.done, self._refusals.fail)
        self._ids = SeenIds()
        self._unusable: set[str] = set()
        self._marked: set[str] = set()
        self._keeps = self.keep_missing or self.delta

    def run(self, source: Iterable[Item | Removal | Reject], metadata: pa.Schema) -> Tally:
        """Take in a whole source. Whatever stops it, the vectors made until then are kept.

        Raises UsageError, and changes no item, where more than half of them would go and `prune` is not set.
        """
        schema = item_schema(metadata)
        with scratch_folder(self.layout) as folder, closing(StagedItems(folder, schema)) as staged:
            try:
                for outcome, digest in ahead(self._looked_up(source), self._examine, self.workers):
                    self._take(outcome, digest, staged)
                    self._encoding.encode_full_batches()
                    self.report(self.tally)
                self._encoding.encode_rest()
            finally:
                self._writer.flush()
            for recovered in self._refusals.close():
                staged.add(recovered)
                self.tally.changed += 1
            staged.close()
            self._commit(staged)
        self.report(self.tally)
        return self.tally

    def _looked_up(self, source: Iterable[Item | Removal | Reject]) -> Iterator[tuple[Known, int]]:
        """Items with what the store knows of them, and their bytes; rows that are no items go to quarantine."""
        for chunk in chunks(source):
            items = [item for row in chunk if (item := self._new(row))]
            self.tally.seen += len(chunk) - len(items)
            for known in self._lookup.find(items):
                yield known, known.size_in_hand

    def _new(self, row: Item | Removal | Reject) -> Item | None:
        """The item of a row, if it is one and the first of its id."""
        if isinstance(row, Reject):
            self._refusals.refuse(Quarantined(row.row, row.id, row.column, row.reason, where=row.where))
            # What hides in a part that cannot be read is not missing.
            self._keeps |= row.hides_rows
            return None
        if row.id in self._ids:
            reason = f"The id {row.id!r} was given before; the first item of that id is kept. Ids must be unique."
            self._refusals.refuse(Quarantined(row.row, row.id, "", reason, where=row.where))
            return None
        self._ids.add(row.id)
        if isinstance(row, Removal):
            self._marked.add(row.id)
            return None
        return row

    def _examine(self, known: Known) -> tuple[tuple[Outcome, bytes | None], int]:
        outcome = self._contents.examine(known.item, known.before)
        size = sum(sample.tensor.nbytes for fresh in outcome.fresh for _, sample in fresh.samples)
        return (outcome, known.digest), size

    def _take(self, outcome: Outcome, digest: bytes | None, staged: StagedItems) -> None:
        self.tally.seen += 1
        self.tally.read += outcome.read
        for entry in outcome.refused:
            self._refusals.refuse(entry)
        for entry in outcome.borrowed:
            self._refusals.borrow(entry)
        for fresh in outcome.fresh:
            self._refusals.queue(fresh)
            self._encoding.add(fresh)
            self.tally.encoded[fresh.modality] += 1
            self.tally.truncated[fresh.modality] += any(sample.truncated for _, sample in fresh.samples)
        row = outcome.item
        if row is None:
            if digest is not None:
                self._unusable.update(entry.id for entry in outcome.refused if entry.id)
        elif row.digest == digest:
            self._refusals.spare(row)
        else:
            staged.add(row)
            self.tally.added += digest is None
            self.tally.changed += digest is not None

    def _commit(self, staged: StagedItems) -> None:
        """Put rows, removals and quarantine into the tables."""
        refused = self._refusals.entries
        self.tally.quarantined = len(refused)
        with commit_lock(self.layout.lock, PATIENCE_SECONDS):
            gone = self._gone(changed_meanwhile=ItemTable(self.layout.items).ids_changed_since(self._items.version))
            gone |= self._drop_lost(staged)
            self._check_removals(len(gone - self._marked))
            commit_items(self.layout.items, staged)
            self.tally.removed = remove_items(self.layout.items, sorted(gone))
            entries = refused + self._others_entries(refused)
            if entries or self._earlier:
                replace_quarantine(self.layout.quarantine, entries)

    def _check_removals(self, gone: int) -> None:
        there = len(self._items)
        if gone * 2 > there and not self.prune:
            raise UsageError(
                f"this source would remove {gone:,} of the store's {there:,} items, as it lacks them or they cannot be "
                "read; nothing was changed. If that is meant, index with --prune; to keep them, with --keep-missing"
            )

    def _drop_lost(self, staged: StagedItems) -> set[str]:
        """Leave out items of which nothing is left. Returns those that are in the table."""
        late = self._refusals.late_ids()
        stored = {name: item.fields for name, item in ItemTable(self.layout.items).by_id(late).items()}
        fields = staged.fields(late) if late else {}
        lost = [name for name, some in (stored | fields).items() if self._refusals.all_failed(some)]
        dropped = [name for name in lost if name in fields]
        staged.drop(dropped)
        self.tally.added -= sum(name not in stored for name in dropped)
        self.tally.changed -= sum(name in stored for name in dropped)
        return {name for name in lost if name in stored}

    def _gone(self, changed_meanwhile: set[str]) -> set[str]:
        """Items that are no longer in the source, or of which nothing can be used any more.

        What others have added or edited since this run began is newer than its source, and stays.
        """
        gone = self._unusable | self._marked
        if not self._keeps:
            gone.update(known for batch in self._items.ids() for known in batch if known not in self._ids)
        return gone - changed_meanwhile

    def _others_entries(self, mine: Sequence[Quarantined]) -> list[Quarantined]:
        """Quarantine entries of items that this run did not see: kept ones, and those written by others meanwhile.

        Entries of rows without ids are of the source that was indexed before: a whole source replaces them, a delta
        those of its own rows.
        """
        earlier = set(self._earlier)
        ids = {entry.id for entry in mine}
        nameless = {(entry.where, entry.column, entry.reason) for entry in mine if entry.id is None}
        return [
            entry
            for entry in quarantined(self.layout.quarantine)
            if (
                (entry.where, entry.column, entry.reason) not in nameless
                if entry.id is None
                else entry.id not in ids and entry.id not in self._ids
            )
            and (entry not in earlier or self.delta or (self._keeps and entry.id is not None))
        ]
