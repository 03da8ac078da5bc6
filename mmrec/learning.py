"""Train a user tower on a store's events, and publish the generation that recommends by it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import StoreError, UsageError
from mmrec.events.cleaning import Cleaning, CleaningReport, clean
from mmrec.events.event import load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.log import EventLog
from mmrec.events.ratings import read_ratings
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import recipe_like, spaces_of
from mmrec.generation.generation import FUSION, Generation, open_generation
from mmrec.snapshot import require_generation
from mmrec.storage.containment import check_not_links, sweep_temporaries
from mmrec.storage.generations import Manifest, current_number
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import file_lock, job_lock
from mmrec.training.config import TrainingConfig
from mmrec.training.train import CHECKPOINT, TrainingReport, train
from mmrec.training.trainer import Epoch, accelerator_for
from mmrec.users.tower import TowerModel

LOCK = "training.lock"
WRITTEN = (LOCK, CHECKPOINT, "tensorboard", "curves.png", "tower.json", "tower.safetensors")
"""Files of a training in its folder."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingInput:
    """The current generation, rows and fused vectors of its items with a content, and cleaned histories."""

    generation: Generation
    rows: Int64[np.ndarray, " n"]
    contents: Float32[np.ndarray, "n content"]
    histories: Histories
    cleaning: CleaningReport


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """Outcome of a training; `manifest` is that of the current generation, which the main process published."""

    report: TrainingReport
    manifest: Manifest
    is_main: bool = True


def load_training_input(layout: Layout, log: EventLog, rules: Cleaning) -> TrainingInput:
    """Combine the events of a log with the items of the current generation.

    Raises StoreError where there is no generation, UsageError where no event is left.
    """
    generation = open_generation(layout, require_generation(layout))
    usable = np.flatnonzero(generation.modalities)
    known = KnownItems.of(ItemTable(layout.items).id_rows()).among(generation.rows[usable])
    events, report = clean(load_events(log.scan()), rules, known)
    if not len(events):
        raise UsageError(
            f"no event of {report.events:,} is left to learn from; see why with `mmrec events stats {layout.root}`"
        )
    histories = Histories.of(events, known, read_ratings(events, rules.kinds))
    return TrainingInput(generation, generation.rows[usable], generation.vectors_at(usable), histories, report)


def train_and_publish(
    layout: Layout,
    log: EventLog,
    config: TrainingConfig,
    folder: Path,
    rules: Cleaning | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainingOutcome:
    """Train a tower on all events, and publish a generation with it; search stays as it is.

    Indexing may run during training; publishing fails at once (StoreBusyError) if another job holds the store. Under
    ``torchrun`` or ``accelerate launch`` every process makes this call; the main one holds the folder, reports and
    publishes. An interrupted training in `folder` is resumed. `on_epoch` is called with each finished epoch.

    Raises:
        UsageError: There is nothing to learn from, or the folder holds another training.
        LinkError: A file it writes in the folder is a link.
        StoreError: The item vectors were replaced meanwhile, or the new generation fails its checks; the current one
            stays, and the trained tower is kept in the folder.
        StoreBusyError: Another training is at work in the folder, or another job on the store.

    """
    rules = Cleaning() if rules is None else rules
    folder.mkdir(parents=True, exist_ok=True)
    check_not_links(folder, WRITTEN)
    accelerator = accelerator_for(config)
    main = accelerator.is_main_process
    with file_lock(folder / LOCK, 0) if main else nullcontext():
        if main:
            sweep_temporaries(folder, folder)
        given = load_training_input(layout, log, rules)
        trained = train(
            given.histories, given.contents, given.rows, config, folder, rules.kinds.weights, on_epoch if main else None
        )
        made = None
        if main:
            with job_lock(layout.job_lock):
                made = _published(layout, given.generation, trained.model)
            # Later trainings have other events, and begin again.
            (folder / CHECKPOINT).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
    if made is None:
        number = current_number(layout)
        made = given.generation.manifest if number is None else open_generation(layout, number).manifest
    return TrainingOutcome(trained.report, made, main)


def _published(layout: Layout, trained_on: Generation, tower: TowerModel) -> Manifest:
    """Publish a generation with the tower, of the items as they are now."""
    number = current_number(layout)
    before = trained_on if number is None else open_generation(layout, number)
    if before.manifest.sha256[FUSION] != trained_on.manifest.sha256[FUSION]:
        raise StoreError(
            f"the item vectors of {layout.root} were fitted again while the tower was trained on the old ones; train "
            "again: `mmrec train`"
        )
    return build_generation(layout, recipe_like(before.manifest, spaces_of(before.fusion)), before, tower=tower)
