"""A source into the store: what is new is encoded, what changed is replaced, what is gone is removed.

Threads read, hash, decode and prepare ahead while this thread encodes; results are taken in source order, so a run is
repeatable. Vectors are committed as they come; rows are staged on disk and committed once, at the end. A job that dies
loses no vector it committed, and the next run goes on from there.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

import pyarrow as pa

from mmrec.catalog.limits import Limits
from mmrec.catalog.seen import SeenIds
from mmrec.embedding.batches import Pending
from mmrec.embedding.contents import Contents, Fresh, Outcome
from mmrec.embedding.encoding import Encoding
from mmrec.embedding.writer import VectorWriter
from mmrec.encoders.protocol import Encoder
from mmrec.items import Item, Reject
from mmrec.modality import Modality
from mmrec.store.items import ItemTable, StoredField, item_schema
from mmrec.store.layout import Layout
from mmrec.store.lock import commit_lock
from mmrec.store.quarantine import Quarantined, quarantined, replace_quarantine
from mmrec.store.scratch import scratch_folder
from mmrec.store.staging import StagedItems, commit_items, remove_items
from mmrec.store.vectors import VectorTable

__all__ = ["EmbeddingJob", "Tally"]

ITEMS_PER_LOOKUP = 512
LOOK_AHEAD = 256
"""Items that may be prepared before the first of them is taken; bounds memory."""


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
        report: Called with the running tally, often.
        keep_missing: Whether items that the source no longer has stay.
        modalities: What is encoded, as far as there is an encoder for it.

    """

    layout: Layout
    encoders: Sequence[Encoder]
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    report: Callable[[Tally], None] = lambda _: None
    keep_missing: bool = False
    modalities: frozenset[Modality] = frozenset(Modality)

    def __post_init__(self) -> None:
        self.tally = Tally()
        self._items = ItemTable(self.layout.items)
        self._earlier = quarantined(self.layout.quarantine)
        spaces = {space for encoder in self.encoders for some in encoder.spaces.values() for space in some}
        tables = {space: VectorTable(self.layout.vectors(space), space) for space in spaces}
        bad = {entry.hash: entry for entry in self._earlier if entry.hash}
        able = frozenset(modality for encoder in self.encoders for modality in encoder.spaces)
        self._contents = Contents(self.encoders, tables, bad, self.modalities & able, self.limits)
        self._writer = VectorWriter(self.layout)
        self._encoding = Encoding(self.encoders, self._writer, self._done, self._fail)
        self._refused: list[Quarantined] = []
        self._late: list[Quarantined] = []
        self._failed: dict[bytes, str] = {}
        self._borrowed: dict[bytes, list[Quarantined]] = {}
        self._encoded = SeenIds()
        self._ids = SeenIds()
        self._unusable: set[str] = set()

    def run(self, source: Iterable[Item | Reject], metadata: pa.Schema) -> Tally:
        """Take in a whole source. Whatever stops it, the vectors made until then are kept."""
        schema = item_schema(metadata)
        with scratch_folder(self.layout) as folder, closing(StagedItems(folder, schema)) as staged:
            try:
                for outcome, digest in self._outcomes(source):
                    self._take(outcome, digest, staged)
                    self._encoding.encode_full_batches()
                    self.report(self.tally)
                self._encoding.encode_rest()
            finally:
                self._writer.flush()
            staged.close()
            self._commit(staged)
        self.report(self.tally)
        return self.tally

    def _outcomes(self, source: Iterable[Item | Reject]) -> Iterator[tuple[Outcome, bytes | None]]:
        """Each item's outcome, in source order, and the digest of the row the store has for it."""
        ahead: deque[tuple[Future[Outcome], bytes | None]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mmrec-read")
        try:
            for item, before, digest in self._looked_up(source):
                ahead.append((pool.submit(self._contents.examine, item, before), digest))
                if len(ahead) >= LOOK_AHEAD:
                    future, earlier = ahead.popleft()
                    yield future.result(), earlier
            while ahead:
                future, earlier = ahead.popleft()
                yield future.result(), earlier
        finally:
            pool.shutdown(cancel_futures=True)

    def _looked_up(
        self, source: Iterable[Item | Reject]
    ) -> Iterator[tuple[Item, dict[str, StoredField], bytes | None]]:
        """Items with what the store knows of them; rows that are no items go to quarantine."""
        bad_before = {entry.id: entry for entry in self._earlier if entry.id and entry.column}
        rows = iter(source)
        while chunk := list(islice(rows, ITEMS_PER_LOOKUP)):
            items = [row for row in chunk if isinstance(row, Item)]
            self._refused.extend(
                Quarantined(row.row, row.id, row.column, row.reason) for row in chunk if isinstance(row, Reject)
            )
            self.tally.seen += len(chunk) - len(items)
            known = self._items.by_id([item.id for item in items])
            for item in items:
                self._ids.add(item.id)
                stored = known.get(item.id)
                before = (
                    {one.column: one for one in stored.fields} if stored else _before(bad_before.get(item.id), item)
                )
                yield item, before, stored.digest if stored else None

    def _take(self, outcome: Outcome, digest: bytes | None, staged: StagedItems) -> None:
        self.tally.seen += 1
        self.tally.read += outcome.read
        self._refused.extend(outcome.refused)
        for entry in outcome.refused:
            if entry.hash:
                self._settle_failure(entry.hash, entry.reason)
        for entry in outcome.borrowed:
            self._borrow(entry)
        for fresh in outcome.fresh:
            self._enqueue(fresh)
        row = outcome.item
        if row is None:
            self._unusable.update(entry.id for entry in outcome.refused if entry.id)
        elif row.digest != digest:
            staged.add(row)
            self.tally.added += digest is None
            self.tally.changed += digest is not None

    def _enqueue(self, fresh: Fresh) -> None:
        self._encoding.add(fresh)
        self.tally.encoded[fresh.modality] += 1
        self.tally.truncated[fresh.modality] += any(sample.truncated for _, sample in fresh.samples)

    def _borrow(self, entry: Quarantined) -> None:
        """Note an item that relies on another having the same content encoded, while that is open."""
        content = entry.hash or b""
        if content in self._failed:
            self._late.append(replace(entry, reason=self._failed[content]))
        elif content.hex() not in self._encoded:
            self._borrowed.setdefault(content, []).append(entry)

    def _done(self, content: bytes) -> None:
        self._encoded.add(content.hex())
        self._borrowed.pop(content, None)

    def _fail(self, pending: Pending, reason: str) -> None:
        self._late.append(replace(pending.blame, reason=reason))
        self._settle_failure(pending.hash, reason)

    def _settle_failure(self, content: bytes, reason: str) -> None:
        self._failed[content] = reason
        self._late.extend(replace(entry, reason=reason) for entry in self._borrowed.pop(content, ()))

    def _commit(self, staged: StagedItems) -> None:
        """Put rows, removals and quarantine into the tables."""
        self._refused.extend(self._late)
        self.tally.quarantined = len(self._refused)
        with commit_lock(self.layout.lock):
            commit_items(self.layout.items, staged)
            remove_items(self.layout.items, self._lost())
            gone = [known for batch in self._items.ids() for known in batch if self._is_gone(known)]
            self.tally.removed = remove_items(self.layout.items, gone)
            others = self._others_entries()
            if self._refused or self._earlier:
                replace_quarantine(self.layout.quarantine, self._refused + others)

    def _is_gone(self, item_id: str) -> bool:
        """Whether a stored item is no longer in the source, or nothing of it can be used any more."""
        return item_id in self._unusable or (not self.keep_missing and item_id not in self._ids)

    def _others_entries(self) -> list[Quarantined]:
        """Quarantine entries of items that this run did not see: kept ones, and those written by others meanwhile."""
        mine = {entry.id for entry in self._refused}
        earlier = set(self._earlier)
        return [
            entry
            for entry in quarantined(self.layout.quarantine)
            if entry.id not in mine
            and (entry.id is None or entry.id not in self._ids)
            and (self.keep_missing or entry not in earlier)
        ]

    def _lost(self) -> list[str]:
        """Items of which nothing is left, now that contents have failed after their rows were staged."""
        late = ItemTable(self.layout.items).by_id(sorted({entry.id for entry in self._late if entry.id}))
        return [name for name, item in late.items() if all(one.hash in self._failed for one in item.fields)]


def _before(bad: Quarantined | None, item: Item) -> dict[str, StoredField]:
    """What is known of an item that is not in the store because nothing of it could be used."""
    if bad is None or bad.hash is None:
        return {}
    modality = next((one.modality for one in item.fields if one.column == bad.column), Modality.TEXT)
    return {bad.column: StoredField(modality, bad.column, bad.hash, bad.uri, bad.size, bad.mtime_ns)}
