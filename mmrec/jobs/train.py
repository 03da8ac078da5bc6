"""Train the user tower of a store on its events, and publish the generation that recommends by it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.compute import configure_threads
from mmrec.errors import StoreError, UsageError
from mmrec.event_log import open_event_log, update_checkpoint
from mmrec.events.cleaning import Cleaning, CleaningReport, clean
from mmrec.events.event import load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.log import EventLog
from mmrec.events.ratings import read_ratings
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import recipe_like, spaces_of
from mmrec.generation.generation import FUSION, Generation, open_generation
from mmrec.reporting import SILENT, Reporter, warn_of
from mmrec.storage.containment import check_not_links, sweep_temporaries
from mmrec.storage.generations import Manifest, current_number
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock, job_lock
from mmrec.training.config import TrainingConfig, load_config
from mmrec.training.estimate import estimate
from mmrec.training.train import CHECKPOINT, TrainingReport, train
from mmrec.training.trainer import Epoch, accelerator_for
from mmrec.users.tower import TowerModel

WRITTEN = (CHECKPOINT, "tensorboard", "curves.png", "tower.json", "tower.safetensors")
"""What a training writes in its folder."""
_LOCK = "training.lock"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One training of a user tower.

    Attributes:
        store: The store's directory.
        config: Sizes and settings, or a TOML file of them; small ones if None.
        out: Folder of curves and checkpoints; in the store if None.
        events: SQLAlchemy URL of the event log; the store's own if None.
        kinds: TOML file with weights and other names of kinds.

    """

    store: Path
    config: Path | TrainingConfig | None = None
    out: Path | None = None
    events: str | None = None
    kinds: Path | None = None


def run(options: TrainOptions, reporter: Reporter = SILENT) -> dict[str, object] | None:
    """Train a store's tower. Returns a summary; None in all processes but the main one.

    Raises UsageError, StoreError, StoreBusyError.
    """
    started = time.perf_counter()
    configure_threads()
    layout, config, rules = _settings(options)
    folder = options.out or layout.root / "training"
    with closing(open_event_log(layout, options.events)) as log:
        if options.events is None:
            update_checkpoint(layout, log)
        published = train_and_publish(
            layout, log, config, folder, rules, partial(report_epoch, reporter, "NDCG@10", "")
        )
    if not published.is_main:
        return None
    warn_of(published.manifest, reporter)
    report = published.report
    return {
        "users": report.users,
        "events": report.events,
        "items": report.items,
        "epochs": len(report.curve),
        "best_epoch": report.best_epoch,
        "ndcg@10": report.ndcg,
        "generation": published.manifest.number,
        "curves": str(folder / "curves.png"),
        "seconds": time.perf_counter() - started,
    }


def run_dry(options: TrainOptions) -> dict[str, object]:
    """Return the sizes, memory and time of a training, and change nothing."""
    configure_threads()
    layout, config, rules = _settings(options)
    with closing(open_event_log(layout, options.events)) as log:
        data = load_training_input(layout, log, rules)
    cost = estimate(data.histories, data.contents, data.rows, config, rules.kinds.weights)
    return {"cleaned_away": {step.name: step.removed for step in data.cleaning.steps if step.removed}, **asdict(cost)}


def _settings(options: TrainOptions) -> tuple[Layout, TrainingConfig, Cleaning]:
    layout = Layout(options.store)
    layout.check()
    config = load_config(options.config) if isinstance(options.config, Path) else options.config or TrainingConfig()
    return layout, config, Cleaning(kinds=Kinds() if options.kinds is None else load_kinds(options.kinds))


def report_epoch(reporter: Reporter, metric: str, run: str, epoch: Epoch) -> None:
    """Note an epoch with a validation, by the name of its metric and what it is a part of."""
    if epoch.score is not None:
        reporter.note(f"{run}{epoch.describe(metric)}")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingInput:
    """The cleaned events of a store, with the fused vectors of those items of a generation that have a content."""

    generation: Generation
    rows: Int64[np.ndarray, " n"]
    contents: Float32[np.ndarray, "n content"]
    histories: Histories
    cleaning: CleaningReport


def load_training_input(layout: Layout, log: EventLog, rules: Cleaning) -> TrainingInput:
    """Load the events of a log with the items of the current generation.

    Raises StoreError where there is no generation, UsageError where nothing is left to learn from.
    """
    number = current_number(layout)
    if number is None:
        raise StoreError(f"{layout.root} has no generation yet; finish it with `mmrec index SOURCE {layout.root}`")
    generation = open_generation(layout, number)
    places = np.flatnonzero(generation.modalities)
    known = KnownItems.of(ItemTable(layout.items).id_rows()).among(generation.rows[places])
    events, report = clean(load_events(log.scan()), rules, known)
    if not len(events):
        raise UsageError(
            f"no event of {report.events:,} is left to learn from; see why with `mmrec events stats {layout.root}`"
        )
    histories = Histories.of(events, known, read_ratings(events, rules.kinds))
    return TrainingInput(generation, generation.rows[places], generation.vectors_at(places), histories, report)


@contextmanager
def training_folder(folder: Path, written: Sequence[str], *, is_main: bool) -> Iterator[None]:
    """Hold a folder for one training, and remove what a killed one left of temporary files.

    Raises StoreBusyError where another training holds it, and LinkError where something that is written is a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_not_links(folder, (_LOCK, *written))
    with file_lock(folder / _LOCK, 0) if is_main else nullcontext():
        if is_main:
            sweep_temporaries(folder, folder)
        yield


@dataclass(frozen=True, slots=True)
class PublishedTower:
    """The report of a training, the generation that is now current, and whether this process published it."""

    report: TrainingReport
    manifest: Manifest
    is_main: bool = True


def train_and_publish(
    layout: Layout,
    log: EventLog,
    config: TrainingConfig,
    folder: Path,
    rules: Cleaning | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> PublishedTower:
    """Train a tower on all events, and publish a generation with it; search goes on as before.

    Indexing may run during training; publishing fails at once if another job holds the store. Under ``torchrun`` or
    ``accelerate launch`` every process makes this call; one of them holds the folder, reports and publishes.

    Args:
        layout: The store.
        log: Its events.
        config: Sizes and settings.
        folder: Where curves and checkpoints are kept; an interrupted training is resumed from there.
        rules: How events are cleaned.
        on_epoch: Called after each epoch.

    Raises:
        UsageError: There is nothing to learn from, or the folder holds another training.
        LinkError: What it writes in the folder is a link.
        StoreError: The item vectors were replaced during the training, or the new generation fails its checks; the one
            before then goes on serving, and what was trained is kept in the folder.
        StoreBusyError: Another training is at work in the folder, or another job on the store.

    """
    rules = Cleaning() if rules is None else rules
    accelerator = accelerator_for(config)
    is_main = accelerator.is_main_process
    with training_folder(folder, WRITTEN, is_main=is_main):
        data = load_training_input(layout, log, rules)
        on_epoch = on_epoch if is_main else None
        trained = train(data.histories, data.contents, data.rows, config, folder, rules.kinds.weights, on_epoch)
        manifest = None
        if is_main:
            with job_lock(layout.job_lock):
                manifest = _published(layout, data.generation, trained.model)
            # The next training has other events, and begins anew.
            (folder / CHECKPOINT).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
    if manifest is None:
        number = current_number(layout)
        manifest = data.generation.manifest if number is None else open_generation(layout, number).manifest
    return PublishedTower(trained.report, manifest, is_main)


def _published(layout: Layout, trained_on: Generation, tower: TowerModel) -> Manifest:
    """Put a tower into the next generation, of the items as they are now."""
    number = current_number(layout)
    before = trained_on if number is None else open_generation(layout, number)
    if before.manifest.sha256[FUSION] != trained_on.manifest.sha256[FUSION]:
        raise StoreError(
            f"the item vectors of {layout.root} were fitted anew while the tower was trained on those before; train "
            "again: `mmrec train`"
        )
    return build_generation(layout, recipe_like(before.manifest, spaces_of(before.fusion)), before, tower=tower)
