"""Recommending the next film of ml-100k: ``python -m benchmarks.movielens``; ``--quick`` is one seed and one split.

1,349 films with five events or more, 943 people; every rank is among all films that the person had not met, ties at
their mean. Leave-one-out: the last event of each person is asked for, the one before validates. Time: trained on the
first 90% of the events, every later event is a target with the history that it had by then. Cold: leave-one-out with
10% of the films, others with each seed, taken out of training and of all histories. Every model is one tower, trained
by `mmrec.training`: ``content`` places films by title, year and genres and bounds what it learns of each; ``id`` has a
free vector for each film instead; both see when events were, and when they are asked. The two called ``-order`` see
neither. Intervals are 95% over people. Each training is a process of its own with one thread, two at a time; results
are kept, so that an interrupted benchmark goes on where it was.
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from os import environ

import numpy as np

from benchmarks.movielens_data import MovieLens
from benchmarks.movielens_popularity import popularity_ranks
from benchmarks.movielens_run import Run, reduced
from benchmarks.movielens_statistics import Interval, hits, interval, ndcgs
from benchmarks.report import arguments, show
from mmrec.events.splits import Split

AT_ONCE = 2
FLOORS = {
    "loo_content_hr10": 0.150,
    "loo_content_ndcg10": 0.072,
    "loo_id_ndcg10": 0.066,
    "loo_content_minus_id_low": 0.0,
    "time_content_minus_recent_low": 0.0,
    "cold_full_ndcg10": 0.0142,
    "cold_only_ndcg10": 0.0863,
    "cold_warm_ratio": 0.97,
}
SEEDS = (0, 1, 2)
POPULARITIES = {
    "loo": {"random": "random", "popularity": "all", "recent popularity": "recent"},
    "time": {
        "random": "random",
        "popularity": "all",
        "recent popularity": "recent",
        "recent popularity, kept up to date": "live",
    },
}
MODELS = ("content", "id", "content-order", "id-order")
DIALS = ("content:0:0.3", "content:0.25:0.3", "content:1:0.3", "content:0.5:0", "content:0.5:0.6")


def main() -> None:
    """Train what is missing, and print."""
    quick = arguments(__doc__ or "").quick
    seeds = SEEDS[:1] if quick else SEEDS
    splits = ("loo",) if quick else ("loo", "cold", "time")
    models = MODELS[:2] if quick else MODELS
    # The first seed of everything comes first, to be looked at while the others are trained.
    runs = [Run(split, model, seeds[0]) for split in splits for model in MODELS[:2]]
    runs += [Run("loo", model, seeds[0]) for model in models[2:]]
    runs += [Run(split, model, seed) for split in splits for seed in seeds[1:] for model in MODELS[:2]]
    runs += [Run("loo", model, seed) for seed in seeds[1:] for model in models[2:]]
    runs += [] if quick else [Run("cold", model, 0) for model in DIALS]
    train_all(runs)
    if quick:
        print("Quick: one seed and one split; the figures are rougher than those of the whole benchmark.")
    figures = table("loo", models, seeds)
    if not quick:
        figures |= table("time", MODELS[:2], seeds) | cold_table(seeds)
        dials_table()
    rows = [("figure", "measured", "floor"), *((name, value, FLOORS.get(name, "")) for name, value in figures.items())]
    show("Figures", rows, figures)


def train_all(runs: Sequence[Run]) -> None:
    """Run what has no result yet, two processes at a time. Raises CalledProcessError where one fails."""
    missing = [run for run in runs if run.result() is None]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(_train, missing):
            pass


def _train(run: Run) -> None:
    run.path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.movielens_run", run.split, run.model, str(run.seed)]
    settings = {**environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with run.path.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=settings)
    print(f"trained {run.split} {run.model} seed {run.seed}", file=sys.stderr)


@cache
def films() -> MovieLens:
    """The data, read once."""
    return MovieLens()


@cache
def split_of(name: str, seed: int) -> Split:
    """A split as its models saw it."""
    return reduced(films().split(name, seed))


def ranks_of(run: Run, kind: str = "full") -> np.ndarray:
    """Ranks of a run's targets."""
    found = run.result()
    if found is None:
        raise RuntimeError(f"{run} has no result.")
    return np.array([np.inf if rank is None else rank for rank in found["ranks"][kind]])


def table(name: str, models: Sequence[str], seeds: Sequence[int]) -> dict[str, float]:
    """Print all models of a split side by side, and return its figures."""
    split = split_of(name, 0)
    people = split.live.owners[split.targets]
    gains = {}
    for label, kind in POPULARITIES[name].items():
        ranks = popularity_ranks(split, films().rows, kind)
        gains[label] = (hits(ranks), ndcgs(ranks))
    for model in models:
        ranks = np.stack([ranks_of(Run(name, model, seed)) for seed in seeds])
        gains[model] = (hits(ranks).mean(axis=0), ndcgs(ranks).mean(axis=0))
    rows: list[Sequence[object]] = [("model", "HR@10", "NDCG@10", "95%", "content is better by", "95%")]
    for label, (hit, gain) in gains.items():
        mean, ahead = interval(gain, people), interval(gains["content"][1] - gain, people)
        rows.append((label, float(hit.mean()), mean.mean, _between(mean), f"{ahead.mean:+.4f}", _between(ahead)))
    show(f"{name}: {len(people)} events of {len(np.unique(people))} people, {len(seeds)} seeds", rows, {})
    return _figures(name, gains, people)


def _figures(name: str, gains: dict[str, tuple[np.ndarray, np.ndarray]], people: np.ndarray) -> dict[str, float]:
    content = gains["content"]
    if name == "loo":
        return {
            "loo_content_hr10": float(content[0].mean()),
            "loo_content_ndcg10": float(content[1].mean()),
            "loo_id_ndcg10": float(gains["id"][1].mean()),
            "loo_popularity_ndcg10": float(gains["popularity"][1].mean()),
            "loo_content_minus_id_low": interval(content[1] - gains["id"][1], people).low,
        }
    # The harder of the two is the one to beat.
    recent = max((label for label in gains if label.startswith("recent")), key=lambda label: gains[label][1].mean())
    ahead = interval(content[1] - gains[recent][1], people)
    return {
        "time_content_ndcg10": float(content[1].mean()),
        "time_id_ndcg10": float(gains["id"][1].mean()),
        "time_recent_ndcg10": float(gains[recent][1].mean()),
        "time_content_minus_recent_low": ahead.low,
    }


def cold_gains(model: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gains on cold and warm films, in the full catalog and among their like, each with the people they are of."""
    split = split_of("cold", seed)
    cold = np.isin(split.live.items[split.targets], split.cold_rows)
    # The people of another seed are asked for other films; they stay the same people.
    people = split.live.owners[split.targets]
    run = Run("cold", model, seed)
    full, alike = ndcgs(ranks_of(run)), ndcgs(ranks_of(run, "alike"))
    return {
        "cold in the full catalog": (full[cold], people[cold]),
        "cold among cold": (alike[cold], people[cold]),
        "warm in the full catalog": (full[~cold], people[~cold]),
        "warm among warm": (alike[~cold], people[~cold]),
    }


def cold_table(seeds: Sequence[int]) -> dict[str, float]:
    """Print cold and warm films, with content and without, and return the figures."""
    found: dict[tuple[str, str], Interval] = {}
    for model in MODELS[:2]:
        parts = [cold_gains(model, seed) for seed in seeds]
        for kind in parts[0]:
            gains, people = (np.concatenate([part[kind][side] for part in parts]) for side in (0, 1))
            found[model, kind] = interval(gains, people)
    kinds = list(dict.fromkeys(kind for _, kind in found))
    rows: list[Sequence[object]] = [("NDCG@10", *(f"{model} {what}" for model in MODELS[:2] for what in ("", "95%")))]
    for kind in kinds:
        each = [found[model, kind] for model in MODELS[:2]]
        rows.append((kind, *(cell for one in each for cell in (f"{one.mean:.4f}", _between(one)))))
    show(f"cold: 10% of the films unseen, {len(seeds)} seeds", rows, {})
    return {
        "cold_full_ndcg10": found["content", "cold in the full catalog"].mean,
        "cold_only_ndcg10": found["content", "cold among cold"].mean,
        "cold_warm_ratio": found["content", "warm among warm"].mean / found["id", "warm among warm"].mean,
        "cold_warm_full_ratio": found["content", "warm in the full catalog"].mean / found["id", "warm among warm"].mean,
    }


def dials_table() -> None:
    """Print how warm and cold trade as the delta's bound and its drop rate vary; one seed."""
    rows: list[Sequence[object]] = [("bound", "dropped", "warm in full", "cold in full", "cold among cold")]
    for model in ("content:0.5:0.3", *DIALS):
        _, bound, drop = model.split(":")
        parts = cold_gains("content" if model == "content:0.5:0.3" else model, 0)
        kinds = ("warm in the full catalog", "cold in the full catalog", "cold among cold")
        rows.append((bound, drop, *(f"{parts[kind][0].mean():.4f}" for kind in kinds)))
    show("Bound and drop rate of the delta, seed 0", rows, {})


def _between(found: Interval) -> str:
    return f"{found.low:.4f} to {found.high:.4f}"


if __name__ == "__main__":
    main()
