"""Train the user tower of a store on its events."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrec.compute import configure_threads
from mmrec.event_log import open_event_log, update_checkpoint
from mmrec.events.cleaning import Cleaning
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.learning import load_training_input, train_and_publish
from mmrec.reporting import SILENT, Reporter, warn_of
from mmrec.storage.layout import Layout
from mmrec.training.config import TrainingConfig, load_config
from mmrec.training.estimate import estimate
from mmrec.training.trainer import Epoch


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
    """Train a store's tower. Returns a summary; None in worker processes.

    Raises UsageError, StoreError, StoreBusyError.
    """
    started = time.perf_counter()
    configure_threads()
    layout, settings, rules = _given(options)
    folder = options.out or layout.root / "training"
    log = open_event_log(layout, options.events)
    try:
        if options.events is None:
            update_checkpoint(layout, log)
        outcome = train_and_publish(layout, log, settings, folder, rules, lambda epoch: _report(epoch, reporter))
    finally:
        log.close()
    if not outcome.is_main:
        return None
    warn_of(outcome.manifest, reporter)
    report = outcome.report
    return {
        "users": report.users,
        "events": report.events,
        "items": report.items,
        "epochs": len(report.curve),
        "best_epoch": report.best_epoch,
        "ndcg@10": report.ndcg,
        "generation": outcome.manifest.number,
        "curves": str(folder / "curves.png"),
        "seconds": time.perf_counter() - started,
    }


def run_dry(options: TrainOptions) -> dict[str, object]:
    """Estimate what a training would use and cost, and change nothing."""
    configure_threads()
    layout, settings, rules = _given(options)
    log = open_event_log(layout, options.events)
    try:
        given = load_training_input(layout, log, rules)
    finally:
        log.close()
    cost = estimate(given.histories, given.contents, given.rows, settings, rules.kinds.weights)
    return {"cleaned_away": {step.name: step.removed for step in given.cleaning.steps if step.removed}, **asdict(cost)}


def _given(options: TrainOptions) -> tuple[Layout, TrainingConfig, Cleaning]:
    layout = Layout(options.store)
    layout.check()
    given = options.config
    settings = load_config(given) if isinstance(given, Path) else given or TrainingConfig()
    return layout, settings, Cleaning(kinds=Kinds() if options.kinds is None else load_kinds(options.kinds))


def _report(epoch: Epoch, reporter: Reporter) -> None:
    if epoch.score is not None:
        reporter.note(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, NDCG@10 {epoch.score:.4f}, {epoch.seconds:.1f} s")
