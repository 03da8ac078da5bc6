"""The job behind ``mmrec train``."""

import time
from dataclasses import asdict
from pathlib import Path

from mmrec.compute import own_threads
from mmrec.event_log import note_events, open_event_log
from mmrec.events.cleaning import Cleaning
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.learning import learn, lessons
from mmrec.storage.layout import Layout
from mmrec.training.config import TrainingConfig, load_config
from mmrec.training.estimate import estimate
from mmrec.training.trainer import Epoch
from pipelines import answers, console


def run(
    store: Path, config: Path | None, out: Path | None, events: str | None, kinds: Path | None
) -> dict[str, object] | None:
    """Train a store's tower. Returns what is told of it, None in all processes but one.

    Raises UsageError, StoreError, StoreBusyError.
    """
    started = time.perf_counter()
    own_threads()
    layout, settings, rules = _given(store, config, kinds)
    folder = out or layout.root / "training"
    log = open_event_log(layout, events)
    try:
        if events is None:
            note_events(layout, log)
        learned = learn(layout, log, settings, folder, rules, _say)
    finally:
        log.close()
    if not learned.main:
        return None
    answers.warn_of(learned.manifest)
    report = learned.report
    return {
        "users": report.users,
        "events": report.events,
        "items": report.items,
        "epochs": len(report.curve),
        "best_epoch": report.best_epoch,
        "ndcg@10": report.ndcg,
        "generation": learned.manifest.number,
        "curves": str(folder / "curves.png"),
        "seconds": time.perf_counter() - started,
    }


def run_dry(store: Path, config: Path | None, events: str | None, kinds: Path | None) -> dict[str, object]:
    """Say what a training would learn from and cost, and change nothing."""
    own_threads()
    layout, settings, rules = _given(store, config, kinds)
    log = open_event_log(layout, events)
    try:
        taught = lessons(layout, log, rules)
    finally:
        log.close()
    cost = estimate(taught.histories, taught.contents, taught.rows, settings, rules.kinds.weights)
    return {"cleaned_away": {step.name: step.removed for step in taught.cleaning.steps if step.removed}, **asdict(cost)}


def _given(store: Path, config: Path | None, kinds: Path | None) -> tuple[Layout, TrainingConfig, Cleaning]:
    layout = Layout(store)
    layout.check()
    settings = TrainingConfig() if config is None else load_config(config)
    return layout, settings, Cleaning(kinds=Kinds() if kinds is None else load_kinds(kinds))


def _say(epoch: Epoch) -> None:
    if epoch.score is not None:
        console.note(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, NDCG@10 {epoch.score:.4f}, {epoch.seconds:.1f} s")
