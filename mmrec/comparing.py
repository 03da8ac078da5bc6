"""Compare two generations of a store on the same queries: overlap, index recall, and ranking quality."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

from indexers.recall import Recall
from mmrec.errors import MediaError, SpaceMismatchError, UsageError
from mmrec.evaluation.bootstrap import Interval, compare, interval
from mmrec.evaluation.metrics import multi_target_metric
from mmrec.generation.checks import measure_search
from mmrec.generation.generation import Generation, open_generation
from mmrec.queries import QueryMaker
from mmrec.query import Part, PartKind
from mmrec.snapshot import Snapshot, search_by_text, snapshot_of
from mmrec.sources.assemble import BadValueError, id_of
from mmrec.sources.places import Place
from mmrec.sources.source import open_reader
from mmrec.storage.generations import generation_numbers
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.types import Modality, Reject

_KINDS: Final[Mapping[str, PartKind]] = {"text": "text", "image": "image", "audio": "audio", "id": "item"}
_RELEVANT: Final = "relevant"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One query; `relevant` are the ids of its right items, each once, empty where unknown."""

    part: Part
    relevant: tuple[str, ...] = ()


def read_judged_queries(file: str | Path) -> list[JudgedQuery]:
    """Read queries from JSON Lines, CSV or Parquet: one of ``text``, ``image``, ``audio`` and ``id`` per row.

    The column ``relevant`` holds an id or a list of ids, in CSV a JSON list; it may be missing, or empty in some rows.
    Paths of images and audio are relative to the file. Raises UsageError for a row without a query, or a file without
    any.
    """
    reader = open_reader(file)
    columns = [name for name in _KINDS if name in reader.types]
    if not columns:
        held = ", ".join(map(repr, reader.types)) or "none"
        raise UsageError(
            f"{file} has no column that could be a query: name one of {', '.join(map(repr, _KINDS))}, and the items "
            f"that are right in {_RELEVANT!r}. It has {held}."
        )
    names = [*columns, *([_RELEVANT] if _RELEVANT in reader.types else [])]
    queries = []
    for row in reader.rows(names):
        if isinstance(row, Reject):
            raise UsageError(f"{row.where or file}: {row.reason}")
        queries.append(_query(row.values, columns, reader.folder, row.where))
    if not queries:
        raise UsageError(f"{file} holds no query: write one a row.")
    return queries


def _query(values: Mapping[str, object], columns: Sequence[str], folder: Place, where: str) -> JudgedQuery:
    given = [name for name in columns if values.get(name) not in (None, "")]
    if len(given) != 1:
        found = " and ".join(map(repr, given)) or "none"
        raise UsageError(f"{where}: a query is one of {', '.join(map(repr, columns))}; this row has {found}.")
    name, value = given[0], values[given[0]]
    try:
        if name == "id":
            part = Part("item", id_of(value))
        elif isinstance(value, str):
            part = Part(_KINDS[name], value if name == "text" else folder.resolve(value))
        else:
            raise UsageError(f"{where}: {name!r} takes a text; this row has a {type(value).__name__}.")
        return JudgedQuery(part, _relevant(values.get(_RELEVANT)))
    except BadValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _relevant(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadValueError(f"{value!r} is no JSON list of ids.") from error
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(id_of(one) for one in several))


Verdict = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of two generations over the same queries, and its paired difference, the second minus the first."""

    metric: str
    one: Interval
    other: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class Quality:
    """Ranking quality of both generations; the first measure decides the verdict on the second generation."""

    measures: tuple[Measure, ...]
    verdict: Verdict


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of the longer of two lists that is in both; 1 for two empty ones."""
    longer = max(len(one), len(other))
    return len(set(one) & set(other)) / longer if longer else 1.0


def quality_of(
    one: Sequence[Sequence[int]],
    other: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    clusters: Int64[np.ndarray, " q"],
    k: int,
    seed: int = 0,
) -> Quality:
    """Measure two lists (rows, best first, at most k) for each query against the relevant rows.

    NDCG@k alone decides, so that nothing is claimed because one of several metrics happened to be high: better where
    the whole 95% interval of the paired difference lies above zero, worse where it lies below. Queries of one cluster,
    such as equal ones, are resampled together.
    """
    measures = []
    for name, metric, cut in (("ndcg", "ndcg", k), ("mrr", "mrr", k), ("r", "hr", 1), ("r", "hr", k)):
        first, second = (_metric_per_query(lists, right, metric, cut)[None] for lists in (one, other))
        difference = compare(("other", "one"), second, first, clusters, seed=seed).difference
        one_mean, other_mean = (interval(values, clusters, seed=seed) for values in (first, second))
        measures.append(Measure(f"{name}@{cut}", one_mean, other_mean, difference))
    unlike = {measure.metric: measure for measure in measures}  # at k = 1 one of them is there twice
    decisive = measures[0].difference
    verdict: Verdict = "better" if decisive.low > 0 else "worse" if decisive.high < 0 else "no difference"
    return Quality(tuple(unlike.values()), verdict)


def _metric_per_query(
    lists: Sequence[Sequence[int]], right: Sequence[Sequence[int]], metric: str, cut: int
) -> Float64[np.ndarray, " q"]:
    found = []
    for rows, wanted in zip(lists, right, strict=True):
        places = {row: rank for rank, row in enumerate(rows, 1)}
        # What was not found ranks below any cut-off.
        ranks = np.array([places.get(row, np.inf) for row in wanted], dtype=np.float64)
        found.append(multi_target_metric(metric, cut, ranks))
    return np.array(found, dtype=np.float64)


_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Answering:
    """How one generation answered.

    `items` counts the store's items it can find now, `recall` is that of its index against exact search. `reasons` are
    those of the unanswered queries, each once, the most frequent first.
    """

    number: int
    encoders: str
    items: int
    recall: Recall
    unanswered: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """Result of a comparison of two generations.

    Attributes:
        k: Length of the lists.
        queries: Number of queries.
        answered: How many both generations answered.
        sides: Both generations, in the order given.
        overlap: Share of a query's lists that is in both.
        judged: How many of the answered queries name a relevant item of the store.
        unknown: How many of the relevant ids are not in the store.
        quality: Which lists are better; None without a judged query.

    """

    k: int
    queries: int
    answered: int
    sides: tuple[Answering, Answering]
    overlap: Interval
    judged: int
    unknown: int
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class _Found:
    """Rows found for each query, best first; None where it could not be answered, with the reasons of these."""

    lists: list[list[int] | None]
    reasons: Counter[str]


def compare_generations(
    layout: Layout,
    pair: tuple[int, int],
    queries: Sequence[JudgedQuery],
    maker_of: Callable[[Generation], QueryMaker],
    *,
    k: int = 10,
    against: frozenset[Modality] | None = None,
    seed: int = 0,
) -> Compared:
    """Query two generations, and compare the results; the second is judged against the first. Nothing is changed.

    `maker_of` gives the encoder of queries of a generation. Raises UsageError where there is no such generation, or no
    query that both can answer, SpaceMismatchError for encoders of another space than their generation's, and StoreError
    where a generation is damaged or its encoders are unknown.
    """
    existing = generation_numbers(layout)
    for number in pair:
        if number not in existing:
            raise UsageError(f"{layout.root} has no generation {number}; there are {existing}")
    if k < 1:
        raise UsageError(f"k must be at least 1; got {k}")
    items = ItemTable(layout.items)
    snapshots = [snapshot_of(layout, open_generation(layout, number), items) for number in pair]
    one, other = (_ask(each, queries, maker_of(each.generation), k, against) for each in snapshots)
    both = [at for at in range(len(queries)) if one.lists[at] is not None and other.lists[at] is not None]
    if not both:
        reason = next(iter((one.reasons + other.reasons).most_common(1)), ("the file holds none", 0))[0]
        raise UsageError(f"generations {pair[0]} and {pair[1]} have no query that both can answer: {reason}")
    clusters = _clusters(queries)
    shared = np.array([overlap(one.lists[at] or [], other.lists[at] or []) for at in both])
    named = {name for query in queries for name in query.relevant}
    known = items.rows_of(sorted(named))
    right = {at: [known[name] for name in queries[at].relevant if name in known] for at in both}
    judged = [at for at in both if right[at]]
    quality = None
    if judged:
        first, second = ([found.lists[at] or [] for at in judged] for found in (one, other))
        quality = quality_of(first, second, [right[at] for at in judged], clusters[judged], k, seed)
    return Compared(
        k=k,
        queries=len(queries),
        answered=len(both),
        sides=(_answering(snapshots[0], one, seed), _answering(snapshots[1], other, seed)),
        overlap=interval(shared[None], clusters[both], seed=seed),
        judged=len(judged),
        unknown=len(named - known.keys()),
        quality=quality,
    )


def _ask(
    snapshot: Snapshot, queries: Sequence[JudgedQuery], maker: QueryMaker, k: int, against: frozenset[Modality] | None
) -> _Found:
    found = _Found([None] * len(queries), Counter())
    vectors = {}
    for place, query in enumerate(queries):
        try:
            vectors[place] = maker.make([query.part], snapshot, against)
        except SpaceMismatchError:
            raise
        except (UsageError, MediaError) as error:
            found.reasons[str(error)] += 1
    allowed = snapshot.rows_allowed(None, against)
    k = min(k, max(1, len(snapshot.index)))  # more would only cost memory
    texts = [place for place in vectors if queries[place].part.kind == "text"]
    others = [place for place in vectors if queries[place].part.kind != "text"]
    for places in (texts, others):
        for start in range(0, len(places), _QUERIES_AT_ONCE):
            some = places[start : start + _QUERIES_AT_ONCE]
            batch = np.stack([vectors[place] for place in some])
            if places is texts:
                rows = search_by_text(snapshot, batch, k, allowed)
            else:
                rows = snapshot.index.search(batch, k + 1, allowed=allowed).rows.tolist()
            for place, near in zip(some, rows, strict=True):
                part = queries[place].part
                itself = snapshot.items.rows_of([str(part.value)]).get(str(part.value)) if part.kind == "item" else None
                found.lists[place] = [row for row in near if row >= 0 and row != itself][:k]
    return found


def _answering(snapshot: Snapshot, found: _Found, seed: int) -> Answering:
    generation = snapshot.generation
    return Answering(
        number=generation.manifest.number,
        encoders=generation.manifest.encoders,
        items=len(snapshot.index),
        recall=measure_search(generation.index, generation.rows, generation.vectors, seed),
        unanswered=found.reasons.total(),
        reasons=tuple(reason for reason, _ in found.reasons.most_common()),
    )


def _clusters(queries: Sequence[JudgedQuery]) -> Int64[np.ndarray, " q"]:
    """A number for each query, the same for equal ones."""
    numbered: dict[tuple[str, str], int] = {}
    return np.array(
        [numbered.setdefault((q.part.kind, str(q.part.value)), len(numbered)) for q in queries], dtype=np.int64
    )
