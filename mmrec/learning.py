"""Behaviour into a store: train a tower on its events, then publish the generation that recommends by it."""

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
"""What a training writes in its folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What a store has to learn from.

    Attributes:
        generation: The current one, whose item vectors are the contents.
        rows: Row numbers of its items that have a content.
        contents: Their fused vectors.
        histories: What people did with them, cleaned.
        cleaning: What cleaning left out.

    """

    generation: Generation
    rows: Int64[np.ndarray, " n"]
    contents: Float32[np.ndarray, "n content"]
    histories: Histories
    cleaning: CleaningReport


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of a training.

    Attributes:
        report: How it went.
        manifest: The generation that is now current.
        main: Whether this process published it; of several, one does.

    """

    report: TrainingReport
    manifest: Manifest
    main: bool = True


def lessons(layout: Layout, log: EventLog, rules: Cleaning) -> Lessons:
    """Take the events of a log with the items of the current generation.

    Raises StoreError where there is no generation, UsageError where nothing is left to learn from.
    """
    number = current_number(layout)
    if number is None:
        raise StoreError(f"{layout.root} has no generation yet; finish it with `mmrec index SOURCE {layout.root}`")
    generation = open_generation(layout, number)
    there = np.flatnonzero(generation.modalities)
    known = KnownItems.of(ItemTable(layout.items).id_rows()).among(generation.rows[there])
    events, report = clean(load_events(log.scan()), rules, known)
    if not len(events):
        raise UsageError(
            f"no event of {report.events:,} is left to learn from; see why with `mmrec events stats {layout.root}`"
        )
    histories = Histories.of(events, known, read_ratings(events, rules.kinds))
    return Lessons(generation, generation.rows[there], generation.vectors_at(there), histories, report)


def learn(
    layout: Layout,
    log: EventLog,
    config: TrainingConfig,
    folder: Path,
    rules: Cleaning | None = None,
    said: Callable[[Epoch], None] | None = None,
) -> Learned:
    """Train a tower on all that people did, and publish a generation with it; search goes on as before.

    Catalogs may be taken in while it trains; only publishing waits for no other job. Under ``torchrun`` or ``accelerate
    launch`` every process makes this call; one of them holds the folder, is heard and publishes.

    Args:
        layout: The store.
        log: Its events.
        config: Sizes and settings.
        folder: Where curves and checkpoints are kept; a training that was interrupted goes on from there.
        rules: How events are cleaned.
        said: Called with each epoch that is done.

    Raises:
        UsageError: There is nothing to learn from, or the folder holds another training.
        LinkError: What it writes in the folder is a link.
        StoreError: The item vectors that it learned from were replaced meanwhile, or the new generation fails its
            checks; the one before then goes on serving, and what was trained is kept in the folder.
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
        taught = lessons(layout, log, rules)
        heard = said if main else None
        trained = train(taught.histories, taught.contents, taught.rows, config, folder, rules.kinds.weights, heard)
        made = None
        if main:
            with job_lock(layout.job_lock):
                made = _published(layout, taught.generation, trained.model)
            # Others will have other events, and begin anew.
            (folder / CHECKPOINT).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
    if made is None:
        number = current_number(layout)
        made = taught.generation.manifest if number is None else open_generation(layout, number).manifest
    return Learned(trained.report, made, main)


def _published(layout: Layout, learned_from: Generation, tower: TowerModel) -> Manifest:
    """Put a tower into the next generation, of the items as they are now."""
    number = current_number(layout)
    before = learned_from if number is None else open_generation(layout, number)
    if before.manifest.sha256[FUSION] != learned_from.manifest.sha256[FUSION]:
        raise StoreError(
            f"the item vectors of {layout.root} were fitted anew while the tower was trained on those before; train "
            "again: `mmrec train`"
        )
    return build_generation(layout, recipe_like(before.manifest, spaces_of(before.fusion)), before, tower=tower)
