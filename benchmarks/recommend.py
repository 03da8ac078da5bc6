"""How long a recommendation takes, at 100,000 items: ``python -m benchmarks.recommend``.

The store is a real one: a table of items, a generation with its index, a log of events in SQLite; its vectors are
synthetic (384 numbers, 2,000 clusters of like size). Each person has 3 to 60 events in three clusters, and one hide.
Whole calls of `Store.recommend` are measured, each right after an event of that person came through another
connection, and each step of a call on its own; ``whole cpu`` is processor time, of all threads. ``--quick`` takes
10,000 items.
"""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

import mmrec
from benchmarks import million
from benchmarks.report import WORK, arguments, show
from mmrec.events.event import Event
from mmrec.events.log import EventLog, open_log
from mmrec.generation.build import build_generation
from mmrec.generation.fuse import Recipe
from mmrec.recommend.answer import ListOptions
from mmrec.recommend.diversify import greedy_dpp
from mmrec.recommend.popular_list import PopularList
from mmrec.recommend.user_events import StoreEvents, user_context
from mmrec.recommend.user_item_space import content_space
from mmrec.recommend.user_list import make_hits, place_user, rank_candidates
from mmrec.snapshot import open_snapshot
from mmrec.sources.media_access import content_hash
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorAppender
from mmrec.types import Modality, Space
from mmrec.unit import unit

SPACE = Space("synthetic", 384, "synthetic-384-clusters-2000-seed-0")
CLUSTERS = 2000
PEOPLE = 300
CALLS = 300
DIAL = 0.3


def main() -> None:
    """Make the store, measure, print."""
    given = arguments(__doc__ or "")
    rows = 10_000 if given.quick else 100_000
    root = WORK / f"recommend-{rows}"
    cluster_of = make_store(root, rows)
    log = open_log(Layout(root).events)
    rng = np.random.default_rng(1)
    for number in range(PEOPLE):
        log.append(events_of(f"person{number}", cluster_of, rng))
    times = {**steps(root), **whole(root, log, rows)}
    table: list[tuple[object, ...]] = [("step", "p50 ms", "p99 ms")]
    figures: dict[str, float] = {"items": rows}
    for name, spent in times.items():
        p50, p99 = (float(np.percentile(spent, at)) * 1000 for at in (50, 99))
        table.append((name.replace("_", " "), p50, p99))
        figures |= {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}
    show(f"{rows:,} items, {PEOPLE} people, {CALLS} calls", table, figures)


def make_store(root: Path, rows: int) -> np.ndarray:
    """Write items and vectors, build a generation. Returns the cluster of each item."""
    shutil.rmtree(root, ignore_errors=True)
    million.write_items(million.Asked(root, rows, None))
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(CLUSTERS, SPACE.dim)).astype(np.float32))
    cluster_of = rng.integers(CLUSTERS, size=rows)
    for start in range(0, rows, million.PIECE):
        some = cluster_of[start : start + million.PIECE]
        noise = unit(rng.normal(size=(len(some), SPACE.dim)).astype(np.float32))
        hashes = [content_hash(b"%d" % row) for row in range(start, start + len(some))]
        VectorAppender(Layout(root).vectors(SPACE), SPACE).append(hashes, unit(centres[some] + noise))
    build_generation(Layout(root), Recipe({Modality.TEXT: (SPACE,)}), None)
    return cluster_of


def events_of(person: str, cluster_of: np.ndarray, rng: np.random.Generator) -> list[Event]:
    """Make the past of one person: views in three clusters, and a hide."""
    now = datetime.now(UTC)
    items = np.concatenate([np.flatnonzero(cluster_of == one) for one in rng.choice(CLUSTERS, 3, replace=False)])
    count = int(rng.integers(3, 61))
    done = [(f"item{row}", "view") for row in rng.choice(items, count)] + [(f"item{rng.choice(items)}", "hide")]
    return [Event(person, item, kind, now - timedelta(hours=count - at)) for at, (item, kind) in enumerate(done)]


def steps(root: Path) -> dict[str, list[float]]:
    """Measure each step of a call on its own."""
    layout = Layout(root)
    snapshot, events = open_snapshot(layout), StoreEvents(layout)
    space, options, nothing = content_space(snapshot), ListOptions(diversity=DIAL), PopularList.empty()
    spent: dict[str, list[float]] = {}

    def timed(name: str, job: Callable[[], Any]) -> Any:  # noqa: ANN401 whatever the job gives
        started = time.perf_counter()
        made = job()
        spent.setdefault(name, []).append(time.perf_counter() - started)
        return made

    for number in range(CALLS):
        user = f"person{number % PEOPLE}"
        done = timed("history", lambda user=user: events.history(user))
        ids = list({one.item for one in done})
        rows = timed("row_numbers", lambda ids=ids: snapshot.items.rows_of(ids))
        person = user_context(done, rows, events.kinds)
        placed = timed("placing", lambda person=person: place_user(space, person, None, time.time_ns() // 1000))
        timed("search", lambda placed=placed: space.index.search(placed.vectors, 260))
        chosen = timed("ranked", lambda p=person, q=placed: rank_candidates(space, p, q, nothing, None, options))
        timed("looking_up", lambda p=person, q=placed, c=chosen: make_hits(snapshot, space, p, q, c, explain=False))
        timed("explained", lambda p=person, q=placed, c=chosen: make_hits(snapshot, space, p, q, c, explain=True))
        relevance, vectors = chosen[0].relevance, unit(snapshot.vectors(chosen[0].rows.tolist()))
        timed("dpp_200_20", lambda r=relevance, v=vectors: greedy_dpp(r, v, 20, DIAL))
        timed("mmr_200_20", lambda r=relevance, v=vectors: mmr(r, v, 20, DIAL))
    return {name: some[10:] for name, some in spent.items()}


def whole(root: Path, log: EventLog, rows: int) -> dict[str, list[float]]:
    """Measure calls of the engine, each right after an event of that person; and lists for strangers."""
    engine = mmrec.open(root)
    spent: dict[str, list[float]] = {"whole": [], "whole_cpu": [], "event_to_list": [], "stranger": []}
    for number in range(CALLS):
        user = f"person{number % PEOPLE}"
        started = time.perf_counter()
        log.append([Event(user, f"item{7919 * number % rows}", "view", datetime.now(UTC))])
        recorded, worked = time.perf_counter(), time.process_time()
        assert len(engine.recommend(user, diversity=DIAL).hits) == 10  # noqa: S101 a fast empty list is worth nothing
        done = time.perf_counter()
        spent["whole_cpu"].append(time.process_time() - worked)
        spent["whole"].append(done - recorded)
        spent["event_to_list"].append(done - started)
        started = time.perf_counter()
        assert len(engine.recommend("nobody").hits) == 10  # noqa: S101 as above
        spent["stranger"].append(time.perf_counter() - started)
    return {name: some[10:] for name, some in spent.items()}


def mmr(
    relevance: Float32[np.ndarray, " n"],
    vectors: Float32[np.ndarray, "n dim"],
    k: int,
    diversity: float,
    window: int | None = None,
) -> Int64[np.ndarray, " k"]:
    """Maximal marginal relevance: each time the greatest ``(1 - diversity) relevance - diversity similarity``.

    The similarity is the cosine with the nearest of those chosen before. Ties go to the earlier place.

    Args:
        relevance: From 0 to 1, higher is better.
        vectors: Unit vectors.
        k: How many are chosen; all of n where it is fewer.
        diversity: 0 orders by relevance alone, 1 by similarity alone.
        window: Only so many of the last choices repel; all if None.

    """
    count = min(k, len(relevance))
    wanted = (1 - diversity) * relevance
    free = np.ones(len(relevance), dtype=bool)
    chosen: list[int] = []
    similarity: list[np.ndarray] = []
    nearest = np.zeros(len(relevance), dtype=np.float32)
    for _ in range(count):
        best = int(np.where(free, wanted - diversity * nearest, -np.inf).argmax())
        chosen.append(best)
        free[best] = False
        latest = vectors @ vectors[best]
        if window is None:
            nearest = latest if len(chosen) == 1 else np.maximum(nearest, latest)
        elif window:
            similarity = [*similarity[-window + 1 :], latest] if window > 1 else [latest]
            nearest = np.max(similarity, axis=0)
    return np.array(chosen, dtype=np.int64)


if __name__ == "__main__":
    main()
