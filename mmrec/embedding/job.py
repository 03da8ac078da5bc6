"""The embedding job: reads items, finds what is stored already, encodes the rest, and commits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa

from mmrec.decoding.limits import Limits
from mmrec.embedding.commit import ChangeRules, Commit
from mmrec.embedding.contents import Contents, Outcome, Tally
from mmrec.embedding.encoding import Encoding, VectorWriter
from mmrec.embedding.prefetch import prefetch_ordered
from mmrec.embedding.run_quarantine import RunQuarantine
from mmrec.encoders.protocol import Encoder, limits_for
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock
from mmrec.storage.quarantine import KnownFailures, Quarantined, QuarantineSnapshot, StagedQuarantine
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.staging import StagedItems
from mmrec.storage.stored_item import StoredField, StoredItem, declared_spaces, is_imported, item_schema
from mmrec.storage.vectors import VectorTable
from mmrec.types import Item, Modality, Reject, Removal

ITEMS_PER_LOOKUP = 512
BYTES_PER_LOOKUP = 32 * 1024 * 1024
TEXTS_PER_TASK = 128
MEDIA_PER_TASK = 8
"""Contents that one task of a reading thread has: enough to share its costs, and few enough that all threads work."""


@dataclass(frozen=True, slots=True)
class LookedUpItem:
    """An item, and what the store has of it.

    Attributes:
        item: The item as it came in.
        fields: Its fields as stored, or as quarantine knows them, by column and URI.
        stored: Its row; None where it has none.
        failed_before: Contents of it that were in quarantine and may have recovered: column and URI.

    """

    item: Item
    fields: Mapping[tuple[str, str | None], StoredField]
    stored: StoredItem | None
    failed_before: frozenset[tuple[str, str | None]]

    @property
    def text(self) -> str | None:
        """The item's text."""
        return next((content.text for content in self.item.fields if content.text is not None), None)

    @property
    def without_contents(self) -> "LookedUpItem":
        """The same without bytes that the source gave."""
        if all(content.data is None for content in self.item.fields):
            return self
        fields = tuple(replace(content, data=None) for content in self.item.fields)
        return replace(self, item=replace(self.item, fields=fields))


def chunks(source: Iterable[Item | Removal | Reject]) -> Iterator[list[Item | Removal | Reject]]:
    """Rows in pieces that are looked up at once, of bounded number and size."""
    chunk: list[Item | Removal | Reject] = []
    size = 0
    for row in source:
        chunk.append(row)
        size += _bytes_given(row) if isinstance(row, Item) else 0
        if len(chunk) >= ITEMS_PER_LOOKUP or size >= BYTES_PER_LOOKUP:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def tasks(known: Sequence[LookedUpItem]) -> Iterator[list[LookedUpItem]]:
    """Items in pieces that one thread examines at once."""
    task: list[LookedUpItem] = []
    load = 0.0
    for one in known:
        texts = sum(content.modality is Modality.TEXT for content in one.item.fields)
        task.append(one)
        load += texts / TEXTS_PER_TASK + (len(one.item.fields) - texts) / MEDIA_PER_TASK
        if load >= 1:
            yield task
            task, load = [], 0.0
    if task:
        yield task


def _bytes_given(item: Item) -> int:
    """Bytes of the contents that the source gave with an item."""
    size = 0
    for content in item.fields:
        size += len(content.data or b"") + len(content.text or "")
    return size


def _as_stored(item: Item, bad: Sequence[Quarantined]) -> list[StoredField]:
    modalities = {(content.column, content.uri): content.modality for content in item.fields}
    return [
        StoredField(
            modalities[entry.column, entry.uri], entry.column, entry.hash, entry.uri, entry.size, entry.mtime_ns
        )
        for entry in bad
        if (entry.column, entry.uri) in modalities
    ]


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
        modalities: What is encoded, as far as there is an encoder for it.
        rules: What the run may change.
        lock_encoding: Encode under the store's encode lock, and not what another process has stored meanwhile: for
            upserts, of which several may bring equal contents at once.

    """

    layout: Layout
    encoders: Sequence[Encoder]
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    media: MediaAccess = field(default_factory=MediaAccess)
    report: Callable[[Tally], None] = lambda _: None
    modalities: frozenset[Modality] = frozenset(Modality)
    rules: ChangeRules = field(default_factory=ChangeRules)
    lock_encoding: bool = False

    def __post_init__(self) -> None:
        self.tally = Tally()
        self._items = ItemTable(self.layout.items)
        self._quarantine = QuarantineSnapshot(self.layout.quarantine)
        spaces = {space for encoder in self.encoders for some in encoder.spaces.values() for space in some}
        self._tables = {space: VectorTable(self.layout.vectors(space), space) for space in spaces}
        failures = KnownFailures(None if self.rules.retry else self._quarantine)
        able = frozenset(modality for encoder in self.encoders for modality in encoder.spaces)
        able |= declared_spaces(self.layout).keys()  # hashed without an encoder, for vectors made elsewhere
        limits = limits_for(self.encoders, self.limits)
        self._contents = Contents(self.encoders, self._tables, failures, self.modalities & able, limits, self.media)
        self._commit = Commit(self.layout, self._items, self._quarantine, self.tally, self.rules)
        self._state = self._commit.state

    def run(self, source: Iterable[Item | Removal | Reject], metadata: pa.Schema) -> Tally:
        """Index a whole source. Whatever stops it, the vectors made until then are kept.

        Raises UsageError, and changes no item, where more than half of them would go and `prune` is not set.
        """
        schema = item_schema(metadata)
        with (
            scratch_folder(self.layout) as folder,
            closing(StagedItems(folder, schema)) as staged,
            closing(StagedQuarantine(folder)) as refused,
        ):
            self._refused = RunQuarantine(refused)
            with (
                closing(VectorWriter(self.layout, self._tables)) as self._writer,
                closing(Encoding(self.encoders, self._writer, self._refused.done, self._refused.fail)) as encoding,
            ):
                for examined in prefetch_ordered(self._looked_up(source), self._examine, self.workers):
                    for outcome, known in examined:
                        self._record(outcome, known, staged, encoding)
                    if encoding.has_full_batch:
                        with self._encoding_lock(encoding):
                            encoding.encode_full_batches()
                    self.report(self.tally)
                with self._encoding_lock(encoding):
                    encoding.encode_rest()
            for recovered in self._refused.close():
                staged.add(recovered)
                self.tally.changed += 1
            staged.close()
            self._commit.commit(staged, self._refused)
        self.report(self.tally)
        return self.tally

    @contextmanager
    def _encoding_lock(self, encoding: Encoding) -> Iterator[None]:
        """Wait for this job's turn to encode, where others may be encoding the same contents."""
        if not self.lock_encoding or not encoding.has_pending:
            yield
            return
        with file_lock(self.layout.encode_lock, JOB_WAIT_SECONDS):
            for modality, _ in encoding.drop_stored():
                self.tally.encoded[modality] -= 1
            yield
            encoding.collect(leave=0)
            self._writer.flush()

    def _looked_up(self, source: Iterable[Item | Removal | Reject]) -> Iterator[tuple[list[LookedUpItem], int]]:
        """Items with what the store knows of them, and their bytes; rows that are no items go to quarantine."""
        for chunk in chunks(source):
            items = [item for row in chunk if (item := self._accept(row))]
            self.tally.seen += len(chunk) - len(items)
            for task in tasks(self._look_up(items)):
                yield task, sum(_bytes_given(known.item) for known in task)

    def _look_up(self, items: Sequence[Item]) -> list[LookedUpItem]:
        """Find the stored row of each item; for an item without one, the fields that quarantine knows."""
        ids = [item.id for item in items]
        stored = self._items.by_id(ids)
        failed = self._quarantine.of_ids(ids)
        return [self._looked_up_item(item, stored.get(item.id), failed.get(item.id, ())) for item in items]

    def _looked_up_item(self, item: Item, stored: StoredItem | None, failed: Sequence[Quarantined]) -> LookedUpItem:
        if stored is None and not failed:
            return LookedUpItem(item, {}, None, frozenset())
        entries = [entry for entry in failed if entry.hash is not None]
        failed_before = frozenset((entry.column, entry.uri) for entry in entries)
        fields = {(one.column, one.uri): one for one in (stored.fields if stored else _as_stored(item, entries))}
        if self.rules.retry:  # what failed is read again although its file is the same
            fields = {place: one for place, one in fields.items() if place not in failed_before}
        return LookedUpItem(item, fields, stored, failed_before)

    def _accept(self, row: Item | Removal | Reject) -> Item | None:
        """Return the item of a row, or None after noting a removal, a rejected row or a second row of an id."""
        self._state.note(row.id)
        if isinstance(row, Reject):
            self._refused.refuse(Quarantined(row.row, row.id, row.column, row.reason, where=row.where))
            # What hides in a part that cannot be read is not missing.
            self._state.is_incomplete |= row.hides_rows
            return None
        if not self._state.items.add_new(row.id):
            reason = f"The id {row.id!r} was given before; the first item of that id is kept. Ids must be unique."
            self._refused.refuse(Quarantined(row.row, row.id, "", reason, where=row.where))
            return None
        if isinstance(row, Removal):
            self._state.removed.add(row.id)
            return None
        return row

    def _examine(self, known: list[LookedUpItem]) -> tuple[list[tuple[Outcome, LookedUpItem]], int]:
        outcomes = self._contents.examine([(one.item, one.fields) for one in known])
        samples = [sample for outcome in outcomes for prepared in outcome.prepared for _, sample in prepared.samples]
        examined = zip(outcomes, (one.without_contents for one in known), strict=True)
        return list(examined), sum(sample.tensor.nbytes for sample in samples)

    def _record(self, outcome: Outcome, known: LookedUpItem, staged: StagedItems, encoding: Encoding) -> None:
        self.tally.seen += 1
        self.tally.read += outcome.read
        row = outcome.item
        if row is not None and known.stored is not None:
            row = replace(row, fields=row.fields + tuple(f for f in known.stored.fields if is_imported(f.column)))
        if row is None:
            self._refused.refuse_all(outcome.refused, known.text, known.item.metadata)
        else:
            for entry in outcome.refused:
                self._refused.refuse(entry)
        for entry in outcome.duplicates_in_flight:
            self._refused.add_duplicate(entry)
        for prepared in outcome.prepared:
            self._refused.queue(prepared)
            encoding.add(prepared)
            self.tally.encoded[prepared.modality] += 1
            self.tally.truncated[prepared.modality] += any(sample.truncated for _, sample in prepared.samples)
        if row is None:
            if known.stored is not None:
                self._state.unusable.add(known.item.id)
        elif known.stored is not None and row.digest == known.stored.digest:
            self._refused.keep_unchanged(row, known.failed_before, outcome.refused)
        else:
            staged.add(row)
            self.tally.added += known.stored is None
            self.tally.changed += known.stored is not None
