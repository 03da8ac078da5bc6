"""The face of a store: search it, look at it, change it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from mmrec.arguments import as_count, as_events, as_history, as_id, as_ids, as_items, as_known, as_modalities, as_parts
from mmrec.embedding.commit import ChangeRules
from mmrec.embedding.contents import Tally
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Encoder
from mmrec.errors import UnknownIdError, UsageError
from mmrec.events.event import Event
from mmrec.events.log import Appended
from mmrec.exchange.vectors_of import read_fusion
from mmrec.generation.fuse import advice_of
from mmrec.queries import QueryMaker
from mmrec.query import Hit, Part, Results
from mmrec.recommend.answer import ListOptions, Recommendations
from mmrec.recommend.recommender import Recommender
from mmrec.recommend.user_events import StoreEvents
from mmrec.recommend.user_item_space import user_item_space
from mmrec.snapshot import Snapshot, count_contents, found_hits, hit_of, open_snapshot, search_by_text
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.generations import Manifest, current, manifest, numbers, roll_back
from mmrec.storage.items import ItemTable, near_ids
from mmrec.storage.layout import Layout
from mmrec.storage.lock import commit_lock
from mmrec.storage.quarantine import Quarantined, count_quarantined, forget, quarantined
from mmrec.storage.staging import remove_items
from mmrec.storage.stored_item import StoredItem, as_item
from mmrec.storage.tables import check_unaltered
from mmrec.types import Item, Modality


class Engine:
    """An open store. Safe to use from several threads; changes made by other processes are seen at the next query."""

    def __init__(
        self,
        layout: Layout,
        load: Callable[[str], Sequence[Encoder]],
        media: MediaAccess,
        events: StoreEvents,
    ) -> None:
        """Take a store, how media are read, and what people did.

        `load` gives the encoders, told what a generation was made with, and keeps those that it gave last.

        The current generation is opened by the first call that needs it: a damaged one can still be rolled back.
        """
        self._layout = layout
        self._load = load
        self._media = media
        self._lock, self._loading = RLock(), RLock()
        self._snapshot: Snapshot | None = None
        self._queries = QueryMaker(self._encoders, media)
        self._events = events
        self._recommender = Recommender(self._fresh_snapshot, self._queries, events, user_item_space)

    def search(
        self,
        query: str | Part | Sequence[Part],
        *,
        against: str | Iterable[Modality | str] | None = None,
        where: str | None = None,
        k: int = 10,
    ) -> Results:
        """Find the items nearest to a query.

        Args:
            query: A text, or parts of any kind with weights.
            against: Which modalities of the items count; all if None.
            where: SQL condition on ``id`` and metadata that items must meet.
            k: How many items at most.

        Raises:
            UsageError: Bad filter, k or weights, parts that cancel out, or an unknown item.
            MediaError: A picture or sound of the query cannot be read.

        """
        started = time.perf_counter()
        parts = as_parts(query)
        k = as_count(k)
        counted = as_modalities(against)
        snapshot = self._fresh_snapshot()
        k = min(k, max(1, len(snapshot.live)))
        asked = [str(part.value) for part in parts if part.kind == "item"]
        self._known(snapshot.items, asked)
        vector = self._queries.make(parts, snapshot, counted)
        allowed = snapshot.rows_allowed(where, counted)
        if len(parts) == 1 and parts[0].kind == "text" and parts[0].weight > 0:
            (rows,) = search_by_text(snapshot, vector[None], k, allowed)
            hits = found_hits(snapshot, vector, rows, set(), Modality.TEXT)
        else:
            found = snapshot.live.search(vector[None], k + len(set(asked)), allowed=allowed)
            hits = found_hits(snapshot, vector, found.rows[0].tolist(), set(asked))[:k]
        return Results(tuple(hits), snapshot.generation.manifest.number, time.perf_counter() - started)

    def search_many(
        self, queries: Iterable[str | Part | Sequence[Part]], *, where: str | None = None, k: int = 10
    ) -> list[Results]:
        """Answer several queries, in their order; see `search`."""
        return [self.search(query, where=where, k=k) for query in queries]

    def similar(
        self,
        item_id: str,
        *,
        against: str | Iterable[Modality | str] | None = None,
        where: str | None = None,
        k: int = 10,
    ) -> Results:
        """Find the items most like an item, itself left out; see `search` for the rest."""
        return self.search(Part("item", as_id(item_id)), against=against, where=where, k=k)

    def recommend(  # noqa: PLR0913 - one question, all of it but the person by name
        self,
        user: str | None = None,
        *,
        history: Sequence[str | tuple[str, str]] = (),
        text: str | None = None,
        k: int = 10,
        where: str | None = None,
        exclude_seen: bool = True,
        diversity: float = 0.0,
        explain: bool = False,
    ) -> Recommendations:
        """Find items for a person: by what they did, by what the call says they did, by a text, or by all of these.

        Someone of whom nothing is known gets what is popular. A user without events and ids that no item has are
        reported, and fail nothing.

        Args:
            user: Whose events the log is asked for.
            history: Ids of items, oldest first, each liked; or pairs of an id and a kind of event, such as ``hide``.
                Nothing of it is stored.
            text: What they say they like.
            k: How many items at most.
            where: As for `search`.
            exclude_seen: Leave out what they met already; what they turned down is always left out.
            diversity: From 0, the best matches, to 1, items as unlike each other as can be.
            explain: Say which items of the past speak for each.

        Raises:
            UsageError: Bad filter, k, diversity or history.

        """
        most = max(1, len(self._fresh_snapshot().live))
        wishes = ListOptions(min(as_count(k), most), where, exclude_seen, diversity, explain)
        who, what = as_known(user, "user"), as_known(text, "text")
        return self._recommender.recommend(who, as_history(history, self._events.kinds), what, wishes)

    def record(self, events: Iterable[Event]) -> Appended:
        """Record what people did; it is on the disk when this returns, and counts in the next list of any process.

        An event of an item that the store lacks is recorded too, and counts once there is one: the answer names them.
        Raises UsageError where one is no event or its kind has no weight; then none is recorded.
        """
        given = as_events(events)
        ids = list(dict.fromkeys(str(event.item) for event in given))
        rows = self._items().rows_of(ids)
        unknown = tuple(item_id for item_id in ids if item_id not in rows)
        return replace(self._events.record(given), unknown_items=unknown)

    def show(self, item_id: str) -> Hit:
        """One item as it is stored; its score is 0. Raises UnknownIdError."""
        return hit_of(self._known(self._published_items(), [as_id(item_id)])[item_id], 0.0, {})

    def items(self, *, where: str | None = None, limit: int | None = None) -> Iterator[Hit]:
        """Items as they are stored, in no promised order, a few in memory at a time; their scores are 0.

        `where` is as for `search`; `limit` is the most that are given. Raises UsageError for a bad filter.
        """
        for batch in self._published_items().scan(where, limit=limit):
            for row in batch.to_pylist():
                yield hit_of(as_item(row), 0.0, {})

    def vectors(self, ids: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """Item vectors in the order of `ids`. Raises UnknownIdError where one is not there."""
        snapshot, wanted = self._fresh_snapshot(), as_ids(ids)
        found = self._known(snapshot.items, wanted)
        return snapshot.vectors([found[item_id].row for item_id in wanted])

    def upsert(self, items: Iterable[Item], metadata: pa.Schema | None = None) -> Tally:
        """Add items or replace those of the same id; they are found from the next query on.

        `metadata` gives the types of the items' metadata; the store's own if None. What cannot be used goes to
        quarantine and is counted in the tally.
        """
        schema = metadata if metadata is not None else self._published_items().metadata_schema
        encoders = self._encoders(self._fresh_snapshot().generation.manifest.encoders)
        if not encoders:
            raise UsageError(
                f"the vectors of {self._layout.root} were made elsewhere, so there is nothing to encode items with; "
                "open it with encoders, or bring vectors with `mmrec import-vectors`"
            )
        job = EmbeddingJob(
            self._layout, encoders, media=self._media, rules=ChangeRules(changes_only=True), lock_encoding=True
        )
        return job.run(as_items(items), schema)

    def delete(self, ids: str | Iterable[str]) -> int:
        """Delete items at once. Returns how many were there; unknown ids are no error."""
        wanted = sorted({ids} if isinstance(ids, str) else set(as_ids(ids)))
        with commit_lock(self._layout.lock):
            removed = remove_items(self._layout.items, wanted)
            forget(self._layout.quarantine, set(wanted))
        return removed

    def quarantined(self, limit: int | None = None) -> list[Quarantined]:
        """What could not be used, and why: all of it, or the first few, in the order of the source."""
        check_unaltered(self._layout, self._layout.quarantine)
        return quarantined(self._layout.quarantine, limit)

    def generations(self) -> list[Manifest]:
        """All published generations, oldest first."""
        return [manifest(self._layout, number) for number in numbers(self._layout)]

    def rollback(self, number: int | None = None) -> int:
        """Make an earlier generation current, by default the one before. Returns its number. Raises UsageError."""
        with commit_lock(self._layout.lock):
            return roll_back(self._layout, number)

    def status(self) -> dict[str, Any]:
        """What is in the store: counts, spaces, weights, index, and what the last build measured."""
        made, fusion = read_fusion(self._layout, None)
        items = self._published_items()
        check_unaltered(self._layout, self._layout.quarantine)
        return {
            "store": str(self._layout.root),
            "items": len(items),
            "generation": made.number,
            "created": made.created,
            "changed_since": len(items.changed_since(made.items_version)),
            "quarantined": count_quarantined(self._layout.quarantine),
            "encoders": made.encoders,
            "contents": count_contents(items, fusion.blocks, self.quarantined()),
            "weights": made.weights,
            "agreement": made.agreement,
            "advice": advice_of(made),
            "dimensions": made.dim,
            "kept_energy": {name: round(kept, 4) for name, kept in made.kept_energy.items()},
            "index": made.index_factory,
            "checks": made.checks,
            "warnings": list(made.warnings),
        }

    def close(self) -> None:
        """Close the log of events; it is opened again when needed."""
        self._events.close()

    def _known(self, items: ItemTable, ids: Sequence[str]) -> dict[str, StoredItem]:
        """The items of these ids. Raises UnknownIdError with ids that may be meant, where one is not there."""
        found = items.by_id(ids)
        missing = next((item_id for item_id in ids if item_id not in found), None)
        if missing is not None:
            near = " or ".join(map(repr, near_ids(items, missing)))
            hint = f"did you mean {near}?" if near else f"list those there are with `mmrec list {self._layout.root}`"
            raise UnknownIdError(f"there is no item {missing!r} in {self._layout.root}; {hint}")
        return found

    def _items(self) -> ItemTable:
        """The items as they are now, whether there is a generation yet or not."""
        with self._lock:
            known = self._snapshot.items if self._snapshot is not None else None
        return known if known is not None and known.version == known.latest_version else ItemTable(self._layout.items)

    def _published_items(self) -> ItemTable:
        """The items as they are now, without opening an index. Raises StoreError before the first generation."""
        if current(self._layout) is None:
            return self._fresh_snapshot().items  # tells what is missing
        check_unaltered(self._layout, self._layout.items)
        return self._items()

    def _fresh_snapshot(self) -> Snapshot:
        with self._lock:
            if self._snapshot is None or not self._snapshot.is_current(self._layout):
                self._snapshot = open_snapshot(self._layout, self._snapshot)
            return self._snapshot

    def _encoders(self, made_with: str) -> Sequence[Encoder]:
        """The encoders of a generation; while some are loaded, what needs none goes on."""
        with self._loading:
            return self._load(made_with)
