"""Jobs of a store: index, train, fine-tune, evaluate, compare, verify, repair, export; and its event log."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmrec.encoders.protocol import Encoder
from mmrec.errors import UsageError
from mmrec.event_log import has_events, open_event_log
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds
from mmrec.events.log import Appended
from mmrec.jobs.index_options import IndexOptions, IndexSummary, with_spec
from mmrec.reporting import Reporter
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.collect import Collected, Policy, collect
from mmrec.storage.layout import Layout


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What a store was opened with; jobs inherit it.

    Attributes:
        encoders: As given: a preset, models, a folder or file, or loaded encoders; None for each generation's own.
        device: Device of the encoders.
        dtype: Their number format.
        events: SQLAlchemy URL of the event log; None for the store's own.
        kinds: Weights of event kinds, or the path of a TOML file of them.
        trust_code: Run code that is not this package's own where a folder in `encoders` names it.
        reporter: Where jobs report.

    """

    encoders: str | Path | Sequence[Encoder] | None
    device: str
    dtype: str
    events: str | None
    kinds: Kinds | str | Path | None
    trust_code: bool
    reporter: Reporter

    def options(self, kind: type[Any], settings: Mapping[str, object], **own: object) -> Any:  # noqa: ANN401 - of `kind`
        """Options of a job: as given, else as the store was opened. Raises UsageError for an unknown setting."""
        names = {one.name for one in fields(kind)}
        inherited: dict[str, object] = {"device": self.device, "dtype": self.dtype, "trust_code": self.trust_code}
        inherited |= {"events": self.events, "encoders": self.named_encoders}
        if "kinds" in names and isinstance(self.kinds, Kinds):
            raise UsageError("jobs read the kinds of events from a file: open the store with kinds='kinds.toml'")
        inherited["kinds"] = _path(self.kinds)
        inherited = {name: value for name, value in inherited.items() if name in names and value is not None}
        return kind(**inherited | _checked(kind, settings) | own)

    @property
    def named_encoders(self) -> str | Path | None:
        """The encoders, unless they were given loaded."""
        return self.encoders if isinstance(self.encoders, str | Path) else None


class StoreJobs:
    """The jobs of a `Store`, which sets the attributes."""

    path: Path
    _layout: Layout
    _media: MediaAccess
    _settings: StoreSettings

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
        given = {"source": source, "store": self.path, "columns": columns, "yes": True}
        options = self._settings.options(IndexOptions, settings, **given)
        return run(with_spec(options, set(settings)), self._settings.reporter)

    def reindex(self, encoders: str | Path | None = None, **settings: Any) -> IndexSummary:
        """Encode the store's own items with other encoders; the generation before serves until all is done.

        Args:
            encoders: A preset, a folder of fine-tuned encoders, models by modality, or a TOML file.
            settings: Fields of `mmrec.IndexOptions`: ``force=True`` uses encoders although fine-tuning made them worse.

        Raises UsageError where a content cannot be read again, and as `index`.

        """
        from mmrec.jobs.index import run  # noqa: PLC0415 - loads torch

        given = settings if encoders is None else settings | {"encoders": encoders}
        options = self._settings.options(IndexOptions, given, source=None, store=self.path, yes=True)
        return run(options, self._settings.reporter)

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

        given = {"config": _path(config), "out": _path(out)}
        options = self._settings.options(TrainOptions, given, store=self.path)
        return run_dry(options) if dry_run else run(options, self._settings.reporter) or {}

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
        options = self._settings.options(FinetuneOptions, given, objective=objective, store=self.path)
        return (run_dry if dry_run else run)(options, self._settings.reporter) or {}

    def evaluate(self, **settings: Any) -> Any:  # noqa: ANN401 - lazily imported
        """Measure how well models recommend, on held-out events; all items are ranked, never a sample.

        Args:
            settings: Fields of `mmrec.jobs.evaluate.EvaluateOptions`, such as ``split="time"``,
                ``train=TrainingConfig()`` to train and evaluate towers too, or ``report="report.html"``.

        Returns a `mmrec.evaluation.evaluating.Evaluation`. Raises UsageError where there are no events.

        """
        from mmrec.jobs.evaluate import EvaluateOptions, run  # noqa: PLC0415 - loads torch

        paths = {name: _path(settings[name]) for name in ("report", "train") if name in settings}
        options = self._settings.options(EvaluateOptions, settings | paths, store=self.path)
        return run(options, self._settings.reporter)[0]

    def compare(self, first: int, second: int, queries: str | Path, *, k: int = 10) -> Any:  # noqa: ANN401 - lazily imported
        """Query two generations with the queries of a file (JSONL, CSV or Parquet), and compare their results.

        Returns a `mmrec.jobs.compare.ComparisonResult`: overlap, recall, and quality where the file names relevant ids.
        """
        from mmrec.jobs.compare import CompareOptions, compare  # noqa: PLC0415 - loads torch

        named = self._settings.named_encoders
        own = {"store": self.path, "encoders": () if named is None else (str(named),)}
        given = {"generations": (first, second), "queries": Path(queries), "k": k}
        options = self._settings.options(CompareOptions, given, **own)
        return compare(options, self._media, self._settings.reporter)

    def verify(self, *, full: bool = False) -> Any:  # noqa: ANN401 - lazily imported
        """Check checksums, counts, pairing, fingerprints and recall; with `full` all items, not a sample.

        Returns a report with ``sound``, ``findings`` and the ``commands`` that repair. Nothing is changed.
        """
        from mmrec.verification.verify import verify_store  # noqa: PLC0415 - seldom needed

        return verify_store(self._layout, full=full)

    def repair(self) -> Any:  # noqa: ANN401 - lazily imported
        """Repair what needs no source. Returns what was done, and whether the source must be indexed again."""
        from mmrec.jobs.upkeep import repair  # noqa: PLC0415 - seldom needed

        named, trust_code = self._settings.named_encoders, self._settings.trust_code
        return repair(self.path, named, trust_code=trust_code, reporter=self._settings.reporter)

    def retry_quarantined(self, **settings: Any) -> dict[str, object]:
        """Read and encode again what is in quarantine, without the source. Returns counts."""
        from mmrec.jobs.upkeep import RetryOptions, retry  # noqa: PLC0415 - loads torch

        return retry(self._settings.options(RetryOptions, settings, store=self.path), self._settings.reporter)

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
        return run_export(self.path, Path(out), Export(**_checked(Export, given)))

    def import_vectors(self, file: str | Path, how: Any = None) -> dict[str, object]:  # noqa: ANN401 - lazily imported
        """Import vectors that were made elsewhere, as a space of their own.

        `how` is a `mmrec.exchange.importing.Import`; by default columns ``id`` and ``vector``.
        """
        from mmrec.exchange.importing import Import  # noqa: PLC0415 - seldom needed
        from mmrec.jobs.upkeep import run_import_vectors  # noqa: PLC0415 - as above

        return run_import_vectors(self.path, Path(file), how or Import(), self._settings.reporter)


class StoreLog:
    """The event log of a store."""

    def __init__(self, layout: Layout, settings: StoreSettings, record: Callable[[Iterable[Event]], Appended]) -> None:
        """Open nothing yet; `record` is `Store.record`."""
        self._layout = layout
        self._settings = settings
        self._record = record

    def add(self, events: Event | Iterable[Event]) -> Appended:
        """Record events; they are durable when this returns, and count in the next recommendation. See `Event`."""
        return self._record([events] if isinstance(events, Event) else events)

    def import_file(self, source: str | Path, **settings: Any) -> dict[str, object]:
        """Import a file of events: Parquet, CSV, JSON Lines, MovieLens's, RecBole's; known events are not added again.

        `settings` are columns by part (``user="who"``, ``item``, ``time``, ``kind``, ``value``, ``id``) and fields of
        `mmrec.jobs.events.ImportOptions`. Returns counts.
        """
        from mmrec.jobs.events import ImportOptions, run_import  # noqa: PLC0415 - seldom needed

        columns = {name: settings.pop(name, None) for name in ("user", "item", "time", "kind", "value", "id")}
        own = {"store": self._layout.root, "source": source, "columns": columns}
        return run_import(self._settings.options(ImportOptions, settings, **own), self._settings.reporter)

    def export(self, out: str | Path) -> int:
        """Write all events to a .parquet, .csv or .jsonl file. Returns how many."""
        from mmrec.jobs.events import run_export  # noqa: PLC0415 - seldom needed

        return run_export(self._layout.root, Path(out), self._settings.events)

    def stats(self) -> dict[str, object]:
        """Count what the log holds, and what cleaning removes."""
        from mmrec.jobs.events import run_stats  # noqa: PLC0415 - seldom needed

        return run_stats(self._layout.root, self._settings.events)

    def forget(self, user: str) -> int:
        """Delete all events of a user. Returns how many. A trained tower keeps traces until the next training."""
        from mmrec.jobs.events import run_forget  # noqa: PLC0415 - seldom needed

        return run_forget(self._layout.root, user, self._settings.events)

    def __len__(self) -> int:
        """Number of events."""
        if not has_events(self._layout, self._settings.events):
            return 0
        with closing(open_event_log(self._layout, self._settings.events)) as log:
            return len(log)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _path(given: Any) -> Any:  # noqa: ANN401 - a text becomes a path, all else stays
    return Path(given) if isinstance(given, str) else given


def _checked(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they are. Raises UsageError for one that is no field of `kind`."""
    names = [one.name for one in fields(kind)]
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]!r}; there are {', '.join(names)}")
    return dict(settings)
