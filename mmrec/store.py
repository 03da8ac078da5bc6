"""A store: index a catalog, search it, recommend from it, train on its events, evaluate it, and maintain it.

For example::

    import mmrec

    with mmrec.create("shop") as store:
        store.index("catalog.jsonl", id="id", text="title", image="picture")
        for hit in store.search("a red boat", k=5):
            print(hit.id, hit.score)
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from mmrec.arguments import (
    as_count,
    as_events,
    as_history,
    as_id,
    as_ids,
    as_items,
    as_modalities,
    as_optional_text,
    as_parts,
)
from mmrec.compute import check_device, let_waiting_threads_sleep
from mmrec.embedding.commit import ChangeRules
from mmrec.embedding.contents import Tally
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.errors import UnknownIdError, UsageError
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.log import Appended
from mmrec.exchange.vectors_of import read_fusion
from mmrec.generation.fuse import advice_of
from mmrec.queries import QueryMaker
from mmrec.query import Hit, Part, Results
from mmrec.recommend.answer import ListOptions, Recommendations
from mmrec.recommend.recommender import Recommender
from mmrec.recommend.user_events import StoreEvents
from mmrec.recommend.user_item_space import user_item_space
from mmrec.reporting import SILENT, Reporter
from mmrec.snapshot import (
    Snapshot,
    count_contents,
    found_hits,
    hit_of,
    open_snapshot,
    require_generation,
    search_by_text,
)
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.generations import Manifest, generation_numbers, read_manifest, roll_back
from mmrec.storage.items import ItemTable, near_ids
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock
from mmrec.storage.quarantine import Quarantined, count_quarantined, delete_quarantined, list_quarantined
from mmrec.storage.staging import remove_items
from mmrec.storage.stored_item import StoredItem, as_item
from mmrec.storage.tables import check_unaltered
from mmrec.store_jobs import StoreJobs, StoreLog, StoreSettings
from mmrec.trust import Confirm, check_encoders, check_outside_store, record_consent
from mmrec.types import Item, Modality

_LOADED_SETS: Final = 2
"""Sets of encoders that stay loaded: those of the current generation, and of the one before, for a rollback."""


class Store(StoreJobs):
    """A store of items and their vectors, with its event log. Safe to use from several threads.

    Open one by `mmrec.open`, or make one by `mmrec.create`; both are context managers. Changes by other processes are
    seen at the next query. The current generation is opened by the first call that needs it, so that a damaged one can
    still be rolled back.
    """

    def __init__(  # noqa: PLR0913 - one store, and all that it may be opened with by name
        self,
        path: str | Path,
        *,
        encoders: str | Path | Sequence[Encoder] | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        media: MediaAccess | None = None,
        events: str | None = None,
        kinds: Kinds | str | Path | None = None,
        confirm: Confirm | None = None,
        trust_code: bool = False,
        reporter: Reporter = SILENT,
    ) -> None:
        """See `open_store`; the directory is not looked at."""
        let_waiting_threads_sleep()
        self._layout = Layout(Path(path))
        self.path = self._layout.root
        if isinstance(encoders, str | Path):
            check_outside_store(self._layout, encoders)
        self._settings = StoreSettings(encoders, check_device(device), dtype, events, kinds, trust_code, reporter)
        self._confirm = confirm or reporter.ask_yes_no
        self._media = media or MediaAccess()
        self._lock, self._loading = RLock(), RLock()
        self._load = lru_cache(maxsize=_LOADED_SETS)(self._load_encoders)
        self._snapshot: Snapshot | None = None
        self._queries = QueryMaker(self._encoders, self._media)
        weights = load_kinds(Path(kinds)) if isinstance(kinds, str | Path) else kinds
        self._events = StoreEvents(self._layout, events, weights)
        self._recommender = Recommender(self._fresh_snapshot, self._queries, self._events, user_item_space)
        self.events = StoreLog(self._layout, self._settings, self.record)

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the event log."""
        self.close()

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
            MediaError: An image or audio file of the query cannot be read.

        """
        started = time.perf_counter()
        parts = as_parts(query)
        k = as_count(k)
        counted = as_modalities(against)
        snapshot = self._fresh_snapshot()
        k = min(k, max(1, len(snapshot.index)))
        item_ids = {str(part.value) for part in parts if part.kind == "item"}
        self._require_items(snapshot.items, sorted(item_ids))
        vector = self._queries.make(parts, snapshot, counted)
        allowed = snapshot.rows_allowed(where, counted)
        if len(parts) == 1 and parts[0].kind == "text" and parts[0].weight > 0:
            (rows,) = search_by_text(snapshot, vector[None], k, allowed)
            hits = found_hits(snapshot, vector, rows, set(), Modality.TEXT)
        else:
            found = snapshot.index.search(vector[None], k + len(item_ids), allowed=allowed)
            hits = found_hits(snapshot, vector, found.rows[0].tolist(), item_ids)[:k]
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

    def recommend(  # noqa: PLR0913 - one request, all of it but the user by name
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
        """Find items for a user: by recorded events, by a history given here, by a text, or by all of these.

        A user of whom nothing is known gets popular items. A user without events, and ids that no item has, are
        reported in the result and are no error.

        Args:
            user: The user whose recorded events count.
            history: Ids of items, oldest first, each liked; or pairs of an id and a kind of event, such as ``hide``.
                It is not stored.
            text: A description of what the user likes.
            k: How many items at most.
            where: As for `search`.
            exclude_seen: Exclude items the user has seen; disliked items are always excluded.
            diversity: From 0, the best matches, to 1, items as different from each other as possible.
            explain: Give the items of the history that each is most similar to.

        Raises:
            UsageError: Bad filter, k, diversity or history.

        """
        most = max(1, len(self._fresh_snapshot().index))
        options = ListOptions(min(as_count(k), most), where, exclude_seen, diversity, explain)
        user, text = as_optional_text(user, "user"), as_optional_text(text, "text")
        return self._recommender.recommend(user, as_history(history, self._events.kinds), text, options)

    def record(self, events: Iterable[Event]) -> Appended:
        """Record events; they are durable when this returns, and count in the next recommendation of any process.

        Events of unknown items are recorded too, named in the result, and count once the item exists. Raises UsageError
        where one is no event or its kind has no weight; then none is recorded.
        """
        given = as_events(events)
        ids = list(dict.fromkeys(str(event.item) for event in given))
        rows = self._items().rows_of(ids)
        unknown = tuple(item_id for item_id in ids if item_id not in rows)
        return replace(self._events.record(given), unknown_items=unknown)

    def show(self, item_id: str) -> Hit:
        """One item as it is stored; its score is 0. Raises UnknownIdError."""
        return hit_of(self._require_items(self._published_items(), [as_id(item_id)])[item_id], 0.0, {})

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
        found = self._require_items(snapshot.items, wanted)
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
                f"the vectors of {self._layout.root} were imported, so that it has no encoders for items; "
                "open it with encoders, or import vectors with `mmrec import-vectors`"
            )
        rules = ChangeRules(changes_only=True)
        job = EmbeddingJob(self._layout, encoders, media=self._media, rules=rules, lock_encoding=True)
        return job.run(as_items(items), schema)

    def delete(self, ids: str | Iterable[str]) -> int:
        """Delete items at once. Returns how many were there; unknown ids are no error."""
        wanted = sorted({ids} if isinstance(ids, str) else set(as_ids(ids)))
        with file_lock(self._layout.lock):
            removed = remove_items(self._layout.items, wanted)
            delete_quarantined(self._layout.quarantine, set(wanted))
        return removed

    def quarantined(self, limit: int | None = None) -> list[Quarantined]:
        """Contents and rows that could not be used, with reasons: all, or the first few, in the order of the source."""
        check_unaltered(self._layout, self._layout.quarantine)
        return list_quarantined(self._layout.quarantine, limit)

    def generations(self) -> list[Manifest]:
        """All published generations, oldest first."""
        return [read_manifest(self._layout, number) for number in generation_numbers(self._layout)]

    def rollback(self, number: int | None = None) -> int:
        """Make an earlier generation current, by default the one before. Returns its number. Raises UsageError."""
        with file_lock(self._layout.lock):
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
        """Close the event log; it is opened again when needed."""
        self._events.close()

    def _require_items(self, items: ItemTable, ids: Sequence[str]) -> dict[str, StoredItem]:
        """The items of these ids. Raises UnknownIdError, with similar ids, where one does not exist."""
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
        require_generation(self._layout)
        check_unaltered(self._layout, self._layout.items)
        return self._items()

    def _fresh_snapshot(self) -> Snapshot:
        with self._lock:
            if self._snapshot is None or not self._snapshot.is_current(self._layout):
                self._snapshot = open_snapshot(self._layout, self._snapshot)
            return self._snapshot

    def _encoders(self, made_with: str) -> Sequence[Encoder]:
        """The encoders the store was opened with, else those of a generation; only loading waits for loading."""
        given = self._settings.encoders
        if given is not None and not isinstance(given, str | Path):
            return given
        with self._loading:
            return self._load(made_with if given is None else given)

    def _load_encoders(self, named: str | Path) -> Sequence[Encoder]:
        settings = self._settings
        if settings.encoders is None:
            check_encoders(self._layout, str(named), self._confirm)
        trust_code = settings.trust_code and settings.encoders is not None
        found = load_encoders(named, device=settings.device, dtype=settings.dtype, trust_code=trust_code)
        if settings.encoders is not None:
            record_consent(self._layout, named)
        return found


def open_store(path: str | Path, **settings: Any) -> Store:
    """Open a store for queries, changes and jobs. Encoders are loaded when first needed.

    Args:
        path: The store's directory.
        settings: Any of these.
            ``encoders``: a preset, a folder of fine-tuned encoders, a TOML file, or loaded encoders. By default each
            generation's own, where that is a preset, models of a hub, or folders that this user named for this store
            before: by indexing with them, or here.
            ``device``: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            ``dtype``: ``fp32``, on a GPU ``bf16`` or ``fp16``.
            ``media``: how media of queries and upserts are read; by default from anywhere but the web.
            ``events``: SQLAlchemy URL of the event log. ``kinds``: weights of event kinds, or a TOML file of them.
            ``confirm``: asked whether a folder that the store names may be used; by default the answer is no.
            ``trust_code``: run code that is not this package's own where a folder in `encoders` names it.
            ``reporter``: where jobs report; by default the logger ``mmrec``.

    Raises:
        UsageError: Encoders inside the store, or an unknown setting.
        StoreError: The store is missing or of another format. One that is damaged or has no generation yet raises it
            at the first query.

    """
    store = Store(path, **settings)
    store._layout.check()  # noqa: SLF001 - of its own file
    return store


def create_store(path: str | Path, encoders: str | Path | Sequence[Encoder] = "packaged", **settings: Any) -> Store:
    """Make a store, or open one that is there; see `open` for the settings. Raises StoreError for another directory."""
    store = Store(path, encoders=encoders, **settings)
    store._layout.create()  # noqa: SLF001 - of its own file
    return store
