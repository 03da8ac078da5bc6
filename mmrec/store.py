"""A store: index a catalog, search it, recommend from it, train on its events, evaluate it, and keep it well.

import mmrec

with mmrec.create("shop") as store:
store.index("catalog.jsonl", id="id", text="title", image="picture")
for hit in store.search("a red boat", k=5):
print(hit.id, hit.score)
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mmrec.compute import check_device, let_waiting_threads_sleep
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.engine import Engine
from mmrec.errors import UsageError
from mmrec.event_log import has_events, open_event_log
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.log import Appended
from mmrec.jobs.index_options import IndexOptions, IndexSummary, with_spec
from mmrec.recommend.user_events import StoreEvents
from mmrec.reporting import SILENT, Reporter
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.collect import Collected, Policy, collect
from mmrec.storage.layout import Layout
from mmrec.trust import Confirm, check_encoders, check_outside_store, record_consent

_KEPT: Final = 2
"""Encoders that stay loaded: those of the current generation, and of the one before, for a rollback."""


class Store(Engine):
    """A store of items and their vectors, with its event log. Safe to use from several threads.

    Open one by `mmrec.open`, or make one by `mmrec.create`; both are context managers.
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
        """Take a directory that holds a store; see `open`."""
        let_waiting_threads_sleep()
        layout = Layout(Path(path))
        if isinstance(encoders, str | Path):
            check_outside_store(layout, encoders)
        self.path = layout.root
        self._encoders_given, self._device, self._dtype, self._trust_code = (
            encoders,
            check_device(device),
            dtype,
            trust_code,
        )
        self._kinds_given, self._reporter = kinds, reporter
        self._events_url = events
        weights = load_kinds(Path(kinds)) if isinstance(kinds, str | Path) else kinds

        @lru_cache(maxsize=_KEPT)
        def load(chosen: str | Path) -> Sequence[Encoder]:
            if encoders is None:
                check_encoders(layout, str(chosen), confirm or reporter.confirm)
            found = load_encoders(chosen, device=device, dtype=dtype, trust_code=trust_code and encoders is not None)
            if encoders is not None:
                record_consent(layout, chosen)
            return found

        def encoders_of(made_with: str) -> Sequence[Encoder]:
            chosen = made_with if encoders is None else encoders
            return load(chosen) if isinstance(chosen, str | Path) else chosen

        super().__init__(layout, encoders_of, media or MediaAccess(), StoreEvents(layout, events, weights))
        self.events = StoreLog(self)

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the event log."""
        self.close()

    def index(
        self,
        source: str | Path,
        *,
        id: str | None = None,  # noqa: A002 - the word that catalogs use
        text: str | Sequence[str] = (),
        image: str | Sequence[str] = (),
        audio: str | Sequence[str] = (),
        metadata: str | Sequence[str] = (),
        deleted: str | None = None,
        **settings: Any,
    ) -> IndexSummary:
        """Bring the store in line with a catalog; only what is missing is read, decoded and encoded.

        Args:
            source: File, folder, URL, pattern, ``hf:NAME``, or a ``.toml`` that describes a catalog.
            id: Column of the items' ids.
            text: Text columns, joined in order. Without any column of a content all are guessed.
            image: Columns of images: paths, URLs or bytes.
            audio: Columns of audio.
            metadata: Columns to filter by and to show.
            deleted: Column that marks items to remove.
            settings: Fields of `mmrec.IndexOptions`, such as ``add=True`` or ``weights={Modality.IMAGE: 0.5}``.

        Raises:
            UsageError: The source, its columns or a setting do not fit.
            StoreBusyError: Another job is at work on the store.
            StoreError: A check of the new generation fails.

        """
        from mmrec.jobs.index import run  # noqa: PLC0415 - loads torch

        columns = ColumnSpec(id or "", _names(text), _names(image), _names(audio), _names(metadata), deleted)
        asked = self._options(IndexOptions, settings, source=source, columns=columns, yes=True)
        return run(with_spec(asked, set(settings)), self._reporter)

    def reindex(self, encoders: str | Path | None = None, **settings: Any) -> IndexSummary:
        """Encode the store's own items with other encoders; the generation before serves until all is done.

        Args:
            encoders: A preset, a folder of fine-tuned encoders, models by modality, or a TOML file.
            settings: Fields of `mmrec.IndexOptions`: ``force=True`` takes up encoders that fine-tuning made worse.

        Raises UsageError where a content cannot be read again, and as `index`.

        """
        from mmrec.jobs.index import run  # noqa: PLC0415 - loads torch

        given = settings if encoders is None else settings | {"encoders": encoders}
        return run(self._options(IndexOptions, given, source=None, yes=True), self._reporter)

    def train(self, config: Any = None, *, out: str | Path | None = None, dry_run: bool = False) -> dict[str, object]:  # noqa: ANN401 - lazily imported
        """Train a user tower on the events, and recommend by it from then on; search stays as it is.

        Args:
            config: A `mmrec.TrainingConfig` or the path of a TOML file; small sizes if None.
            out: Folder of curves and checkpoints; in the store if None.
            dry_run: Only estimate sizes, memory and time.

        Returns counts, the NDCG@10 on validation, and the generation.

        Raises UsageError where there is nothing to learn from, StoreBusyError and StoreError as `index`.

        """
        from mmrec.jobs.train import TrainOptions, run, run_dry  # noqa: PLC0415 - loads torch

        asked = TrainOptions(self.path, _path(config), _path(out), self._events_url, self._kinds_path())
        return run_dry(asked) if dry_run else run(asked, self._reporter) or {}

    def finetune(
        self,
        objective: str,
        config: Any = None,  # noqa: ANN401 - lazily imported
        *,
        out: str | Path | None = None,
        dry_run: bool = False,
        **settings: Any,
    ) -> dict[str, object]:
        """Fine-tune the encoders on the store's items, and judge whether that helped; the store is not changed.

        Args:
            objective: ``align`` (modalities of an item), ``coengage`` (items that the same users take) or ``label``.
            config: A `mmrec.FinetuneConfig` or the path of a TOML file; heads on stored vectors if None.
            out: Folder of the encoders; beside the store if None. `reindex` with it to use them.
            dry_run: Only estimate counts, sizes, memory and time.
            settings: Fields of `mmrec.jobs.finetune.FinetuneOptions`, such as ``column="genre"`` for labels.

        Returns counts, the verdict, and the folder of the encoders as ``encoders``.

        """
        from mmrec.jobs.finetune import FinetuneOptions, run, run_dry  # noqa: PLC0415 - loads torch

        given = {"config": _path(config), "out": _path(out), **settings}
        asked = self._options(FinetuneOptions, given, objective=objective)
        return (run_dry if dry_run else run)(asked, self._reporter) or {}

    def evaluate(self, **settings: Any) -> Any:  # noqa: ANN401 - lazily imported
        """Measure how well models recommend, on held-out events; all items are ranked, never a sample.

        Args:
            settings: Fields of `mmrec.EvaluateOptions`, such as ``split="time"``, ``train=TrainingConfig()`` to train
                and evaluate towers too, or ``report="report.html"``.

        Returns a `mmrec.evaluation.evaluating.Evaluation`. Raises UsageError where there are no events.

        """
        from mmrec.jobs.evaluate import EvaluateOptions, run  # noqa: PLC0415 - loads torch

        paths = {name: _path(settings[name]) for name in ("report", "train") if name in settings}
        return run(self._options(EvaluateOptions, settings | paths), self._reporter)[0]

    def compare(self, one: int, other: int, queries: str | Path, *, k: int = 10) -> Any:  # noqa: ANN401 - lazily imported
        """Ask two generations the queries of a file (JSONL, CSV or Parquet), and compare their lists.

        Returns a `mmrec.jobs.compare.ComparisonResult`: overlap, recall, and quality where the file names relevant ids.
        """
        from mmrec.jobs.compare import CompareOptions, compare  # noqa: PLC0415 - loads torch

        named = () if self._encoders_given is None else (str(self._encoders_given),)
        asked = CompareOptions(self.path, (one, other), Path(queries), k, None, named, self._device, self._dtype)
        return compare(asked, self._media, self._reporter)

    def verify(self, *, full: bool = False) -> Any:  # noqa: ANN401 - lazily imported
        """Check checksums, counts, pairing, fingerprints and recall; with `full` all items, not a sample.

        Returns a report with ``sound``, ``findings`` and the ``commands`` that repair. Nothing is changed.
        """
        from mmrec.verification.verify import verify_store  # noqa: PLC0415 - seldom needed

        return verify_store(self._layout, full=full)

    def repair(self) -> Any:  # noqa: ANN401 - lazily imported
        """Repair what needs no source. Returns what was done, and whether the source must be indexed again."""
        from mmrec.jobs.upkeep import repair  # noqa: PLC0415 - seldom needed

        given = self._encoders_given if isinstance(self._encoders_given, str | Path) else None
        return repair(self.path, given, trust_code=self._trust_code, reporter=self._reporter)

    def retry_quarantined(self, **settings: Any) -> dict[str, object]:
        """Read and encode again what is in quarantine, without the source. Returns counts."""
        from mmrec.jobs.upkeep import RetryOptions, retry  # noqa: PLC0415 - loads torch

        return retry(self._options(RetryOptions, settings), self._reporter)

    def compact(self, policy: Policy | None = None) -> Collected:
        """Remove old generations, old versions of tables, and leftovers of crashed jobs; merge small fragments."""
        return collect(self._layout, policy or Policy())

    def export(self, out: str | Path, **settings: Any) -> dict[str, object]:
        """Export ids, metadata and vectors to a Parquet file or a `datasets` directory, by the name of `out`.

        `settings` are fields of `mmrec.exchange.export.Export`, such as ``space``, ``where`` or ``overwrite``.
        """
        from mmrec.exchange.export import Export  # noqa: PLC0415 - seldom needed
        from mmrec.jobs.upkeep import chosen_format, run_export  # noqa: PLC0415 - as above

        given: dict[str, Any] = {"format": chosen_format(None, Path(out)), **settings}
        how = Export(**_known(Export, given))
        return run_export(self.path, Path(out), how)

    def import_vectors(self, file: str | Path, how: Any = None) -> dict[str, object]:  # noqa: ANN401 - lazily imported
        """Import vectors that were made elsewhere, as a space of their own.

        `how` is a `mmrec.exchange.importing.Import`; by default columns ``id`` and ``vector``.
        """
        from mmrec.exchange.importing import Import  # noqa: PLC0415 - seldom needed
        from mmrec.jobs.upkeep import run_import_vectors  # noqa: PLC0415 - as above

        return run_import_vectors(self.path, Path(file), how or Import(), self._reporter)

    def _options(self, kind: type[Any], settings: Mapping[str, object], **own: object) -> Any:  # noqa: ANN401 - of `kind`
        """Options of a job: as given, else as the store was opened. Raises UsageError for a setting that is none."""
        opened = {
            "encoders": self._encoders_given if isinstance(self._encoders_given, str | Path) else None,
            "device": self._device,
            "dtype": self._dtype,
            "trust_code": self._trust_code,
            "events": self._events_url,
            "kinds": self._kinds_path(),
        }
        there = {one.name for one in fields(kind)}
        inherited = {name: value for name, value in opened.items() if name in there and value is not None}
        return kind(store=self.path, **inherited | _known(kind, settings) | own)

    def _kinds_path(self) -> Path | None:
        if isinstance(self._kinds_given, Kinds):
            raise UsageError("jobs read the kinds of events from a file: open the store with kinds='kinds.toml'")
        return _path(self._kinds_given)


class StoreLog:
    """The event log of a store."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store

    def add(self, events: Event | Iterable[Event]) -> Appended:
        """Record events; they are durable when this returns, and count in the next recommendation. See `Event`."""
        return self._store.record([events] if isinstance(events, Event) else events)

    def import_file(self, source: str | Path, **settings: Any) -> dict[str, object]:
        """Import a file of events: Parquet, CSV, JSON Lines, MovieLens's, RecBole's; what is there is not added again.

        `settings` are columns by part (``user="who"``, ``item``, ``time``, ``kind``, ``value``, ``id``) and fields of
        `mmrec.jobs.events.ImportOptions`. Returns counts.
        """
        from mmrec.jobs.events import ImportOptions, run_import  # noqa: PLC0415 - seldom needed

        parts = ("user", "item", "time", "kind", "value", "id")
        columns = {name: settings.pop(name, None) for name in parts}
        asked = self._store._options(ImportOptions, settings, source=source, columns=columns)  # noqa: SLF001
        return run_import(asked, self._store._reporter)  # noqa: SLF001

    def export(self, out: str | Path) -> int:
        """Write all events to a .parquet, .csv or .jsonl file. Returns how many."""
        from mmrec.jobs.events import run_export  # noqa: PLC0415 - seldom needed

        return run_export(self._store.path, Path(out), self._store._events_url)  # noqa: SLF001

    def stats(self) -> dict[str, object]:
        """Count what the log holds, and what cleaning leaves out."""
        from mmrec.jobs.events import run_stats  # noqa: PLC0415 - seldom needed

        return run_stats(self._store.path, self._store._events_url)  # noqa: SLF001

    def forget(self, user: str) -> int:
        """Delete all events of a user. Returns how many. A trained tower keeps traces until the next training."""
        from mmrec.jobs.events import run_forget  # noqa: PLC0415 - seldom needed

        return run_forget(self._store.path, user, self._store._events_url)  # noqa: SLF001

    def __len__(self) -> int:
        """Number of events."""
        if not has_events(self._store._layout, self._store._events_url):  # noqa: SLF001
            return 0
        with closing(open_event_log(self._store._layout, self._store._events_url)) as log:  # noqa: SLF001
            return len(log)


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


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _path(given: Any) -> Any:  # noqa: ANN401 - a path, or what is none
    return Path(given) if isinstance(given, str) else given


def _known(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Raise UsageError for a setting that is no field of `kind`."""
    there = [one.name for one in fields(kind)]
    unknown = [name for name in settings if name not in there]
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]!r}; there are {', '.join(there)}")
    return dict(settings)
