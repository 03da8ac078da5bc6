"""Evaluate models on a store's events: split them, train towers, rank with all models, report."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.compute import configure_threads
from mmrec.errors import UsageError
from mmrec.evaluation.baselines import (
    ContentMean,
    ItemKNN,
    Popularity,
    RandomOrder,
    RecentPopularity,
    fit_popularity_blend_scorer,
)
from mmrec.evaluation.cases import Candidates, EvaluationCases
from mmrec.evaluation.diversity_curve import CurvePoint, accuracy_diversity_curve
from mmrec.evaluation.evaluating import Evaluation, EvaluationProtocol, evaluate, fit
from mmrec.evaluation.report import EvaluationPage, render
from mmrec.evaluation.scorer import UNTIMED, Scorer, UserModelScorer
from mmrec.event_log import has_events, open_event_log
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import EventArrays, load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds, load_kinds
from mmrec.events.ratings import read_ratings
from mmrec.events.splits import Split, hold_out_items, hold_out_users, leave_one_out, time_cutoff, time_split
from mmrec.files import check_output, write_page
from mmrec.jobs.train import report_epoch
from mmrec.reporting import SILENT, Reporter
from mmrec.snapshot import open_snapshot
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.training.config import TrainingConfig, load_config
from mmrec.training.train import train
from mmrec.users.interests import ContentInterests
from mmrec.users.tower import TowerModel

TOWER: Final = "tower"

_SPLITS: Final = {"time": "by time", "last": "by time, last event only", "leave-one-out": "leave one out"}


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """One run of ``mmrec evaluate``.

    Attributes:
        store: The store's directory.
        split: Which events are predicted.
        quantile: Share of the events that come before the cutoff of a split by time.
        report: Where the page is written, if anywhere.
        category: Metadata column whose values, parted by commas, are categories.
        cold_items: Whether a tenth of the items is held out of training.
        cold_users: Whether a tenth of the users is held out of training; they alone are evaluated then.
        allow_seen: Whether items that a user has seen can be recommended.
        kinds: TOML file with weights and other names of kinds.
        events: SQLAlchemy URL of the log; None is the store's own.
        users: How many users are evaluated at most, drawn by the seed; all if None.
        seed: Seed of what is held out, and of the users drawn.
        train: Configuration of towers that are trained on the split and evaluated too; none without it.
        seeds: How often each tower is trained.

    """

    store: Path
    split: Literal["time", "last", "leave-one-out"] = "time"
    quantile: float = 0.9
    report: Path | None = None
    category: str | None = None
    cold_items: bool = False
    cold_users: bool = False
    allow_seen: bool = False
    kinds: Path | None = None
    events: str | None = None
    users: int | None = None
    seed: int = 0
    train: Path | TrainingConfig | None = None
    seeds: int = 1


def run(options: EvaluateOptions, reporter: Reporter = SILENT) -> tuple[Evaluation, dict[str, str]]:
    """Evaluate the baselines, interests without training, and towers where they are configured.

    Returns what was measured, and how the events were split, by name. Raises UsageError or StoreError.
    """
    if options.report is not None:
        check_output(options.report)  # before the work, not after it
    kinds = Kinds() if options.kinds is None else load_kinds(options.kinds)
    layout = Layout(options.store)
    layout.check()
    snapshot = open_snapshot(layout)
    known = KnownItems.of(snapshot.items.id_rows())
    rows = np.sort(known.rows)
    shares = None if options.category is None else category_shares(snapshot.items, options.category, rows)
    candidates = Candidates(rows, snapshot.vectors(rows.tolist()), shares)
    split = _split(options, _events(options, layout), known, Cleaning(kinds=kinds))
    baselines = (RandomOrder(), Popularity(kinds), RecentPopularity(kinds=kinds), ItemKNN(kinds=kinds), ContentMean())
    models: dict[str, Sequence[Scorer]] = {**fit(baselines, split, candidates)}
    models["interests"] = [_interests(split, candidates, kinds, models[RecentPopularity().name][0])]
    towers, losses = _train_towers(options, split, candidates, kinds, reporter)
    models |= towers
    with reporter.progress("evaluating", len(models)) as advance:
        protocol = EvaluationProtocol(
            allow_seen=options.allow_seen, most_users=options.users, seed=options.seed, kinds=kinds
        )
        found = evaluate(split, candidates, models, protocol, lambda _: advance(1))
    facts = _facts(options, split)
    if options.report is not None:
        name = TOWER if towers else "interests"
        cases = EvaluationCases.of(split, kinds).answerable(candidates)
        points = accuracy_diversity_curve(models[name][0], cases, candidates, seed=options.seed)
        facts[f"diversity for 2% of the NDCG@10 of {name}"] = _diversity_within_budget(points)
        title = f"Evaluation of {options.store.resolve().name}"
        curve = {f"{name}, more diverse": [(one.diversity, one.ndcg) for one in points]}
        write_page(options.report, render(EvaluationPage(title, found, facts, losses, curve)))
        reporter.note(f"The page is {options.report}")
    return found, facts


def _interests(split: Split, candidates: Candidates, kinds: Kinds, popular: Scorer) -> Scorer:
    """Scorer of users without a trained tower."""
    assert candidates.vectors is not None  # noqa: S101 - a store has some
    model = ContentInterests(candidates.vectors.shape[1])
    interests = UserModelScorer(model, candidates, cold=popular, name="interests")
    return fit_popularity_blend_scorer(split.train_and_validation(), candidates, kinds, interests, popular)


def _train_towers(
    options: EvaluateOptions, split: Split, candidates: Candidates, kinds: Kinds, reporter: Reporter
) -> tuple[Mapping[str, Sequence[Scorer]], Mapping[str, Sequence[float]]]:
    """Train towers with and without content. Returns a scorer for each seed, by model, and the losses of each run.

    Users without a history are answered by recent popularity. On a leave-one-out split each tower is also evaluated
    without the time of the request, as most papers do. Raises UsageError where there is nothing to learn from, or no
    item has a content.
    """
    scorers: dict[str, list[UserModelScorer]] = {}
    losses: dict[str, Sequence[float]] = {}
    if options.train is None:
        return scorers, losses
    if candidates.vectors is None:
        raise UsageError("Towers are trained on contents: give candidates that have vectors.")
    configure_threads()
    base = options.train if isinstance(options.train, TrainingConfig) else load_config(options.train)
    cold = RecentPopularity(kinds=kinds).fit(split.train, candidates)
    vectors = np.asarray(candidates.vectors, dtype=np.float32)
    for name, content in ((TOWER, True), ("ID-only SASRec", False)):
        runs = []
        for seed in range(base.seed, base.seed + options.seeds):
            tower = base.tower.model_copy(update={"content": content})
            config = base.model_copy(update={"tower": tower, "seed": seed})
            run = f"{name}, seed {seed}"
            with TemporaryDirectory(prefix="mmrec-evaluate-") as folder:
                on_epoch = partial(report_epoch, reporter, "validation NDCG@10", f"{run}, ")
                done = train(split, vectors, candidates.rows, config, Path(folder), dict(kinds.weights), on_epoch)
            losses[run] = [epoch.loss for epoch in done.report.curve]
            runs.append(UserModelScorer(TowerModel(done.model.tower, name), candidates, cold=cold))
        scorers[name] = runs
    if options.split == "leave-one-out":
        scorers |= {f"{name}{UNTIMED}": [replace(one, timed=False) for one in runs] for name, runs in scorers.items()}
    return scorers, losses


def _events(options: EvaluateOptions, layout: Layout) -> EventArrays:
    if has_events(layout, options.events):  # opening creates the log
        with closing(open_event_log(layout, options.events)) as log:
            events = load_events(log.scan())
        if len(events):
            return events
    raise UsageError(f"{options.store} has no events: bring some with `mmrec events import {options.store} FILE`.")


def _split(options: EvaluateOptions, events: EventArrays, known: KnownItems, rules: Cleaning) -> Split:
    if options.split == "leave-one-out":
        cleaned = clean(events, rules, known)[0]
        split = leave_one_out(Histories.of(cleaned, known, read_ratings(cleaned, rules.kinds)), rules)
    else:
        split = time_split(events, known, time_cutoff(events, options.quantile, rules), rules)
    # What is held out is chosen by ids alone, and before targets are dropped.
    if options.cold_items:
        split = hold_out_items(split, known, seed=options.seed)
    if options.cold_users:
        split = hold_out_users(split, seed=options.seed)
    return split.last_only() if options.split == "last" else split


def _facts(options: EvaluateOptions, split: Split) -> dict[str, str]:
    facts = {"split": _SPLITS[options.split], "time of the request": "known to the models"}
    if options.split == "leave-one-out" and options.train is not None:
        facts["time of the request"] += f", but not to {TOWER}{UNTIMED}"
    if split.live.strengths is not None:
        low = int((split.live.strengths <= 0).sum())
        facts["targets"] = f"liked items alone; {low:,} low ratings are none"
    if split.cutoff is not None:
        moment = datetime.fromtimestamp(split.cutoff / 1e6, UTC)
        facts["cutoff"] = f"{moment:%Y-%m-%d %H:%M}, after {options.quantile:.0%}"
    if split.cold_rows is not None:
        facts["items held out"] = f"{len(split.cold_rows):,}"
    if split.cold_users is not None:
        facts["users held out"] = f"{len(split.cold_users):,}"
    return facts


_ACCURACY_BUDGET: Final = 0.02


def _diversity_within_budget(curve: Sequence[CurvePoint]) -> str:
    """Say how much diversity no more than 2% of accuracy buys."""
    plain = curve[0]
    best = max((one for one in curve if one.ndcg >= (1 - _ACCURACY_BUDGET) * plain.ndcg), key=lambda one: one.diversity)
    return f"{best.diversity / plain.diversity - 1:+.0%}, at diversity {best.setting:g}"


def category_shares(
    items: ItemTable, column: str, rows: Int64[np.ndarray, " items"]
) -> Float32[np.ndarray, "items categories"]:
    """Read a column; a text with commas, or a list, is several categories in equal shares. Rows must be ascending.

    Raises UsageError where there is no such column.
    """
    names = items.metadata_schema.names
    if column not in names:
        raise UsageError(f"There is no metadata column {column!r}; there are {', '.join(names) or 'none'}.")
    found: dict[str, int] = {}
    lines, columns, shares = [], [], []
    for batch in items.scan():
        places = np.searchsorted(rows, batch["_rowid"].to_numpy().astype(np.int64))
        for place, value in zip(places.tolist(), batch[column].to_pylist(), strict=True):
            several = sorted(set(_several(value)))
            lines += [place] * len(several)
            columns += [found.setdefault(one, len(found)) for one in several]
            shares += [1 / len(several)] * len(several)
    made = np.zeros((len(rows), len(found)), dtype=np.float32)
    made[lines, columns] = shares
    return made


def _several(value: object) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else str(value).split(",")
    return [text for one in values if (text := str(one).strip())]
