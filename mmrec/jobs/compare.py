"""Compare two generations of a store on the same queries: overlap, index recall, and ranking quality."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

from indexers.recall import Recall
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.queries import best_encoders, covers
from mmrec.errors import MediaError, SpaceMismatchError, UsageError
from mmrec.evaluation.bootstrap import Interval, before_and_after, interval
from mmrec.evaluation.metrics import multi_target_metric
from mmrec.generation.checks import measure_search
from mmrec.generation.generation import Generation, open_generation
from mmrec.jobs.judged_queries import JudgedQuery, read_judged_queries
from mmrec.queries import QueryMaker
from mmrec.reporting import SILENT, Reporter
from mmrec.snapshot import Snapshot, search_by_text, snapshot_of
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.generations import generation_numbers
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.trust import check_encoders, is_consented, record_consent
from mmrec.types import Modality

_QUERIES_AT_ONCE: Final = 256
_WORDS: Final[dict[int, Literal["better", "no difference", "worse"]]] = {
    1: "better",
    0: "no difference",
    -1: "worse",
}


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """One run of ``mmrec compare``.

    Attributes:
        store: The store's directory.
        generations: The two, of which the second is judged against the first.
        queries: File of queries.
        k: Length of the lists.
        against: Which modalities of the items count; all if None.
        encoders: Encoders to try, beside those that the generations name and that may be reopened.
        device: Where encoders run.
        dtype: Their number format.
        trust_code: Run code that is not this package's own where a folder in `encoders` names it.

    """

    store: Path
    generations: tuple[int, int]
    queries: Path
    k: int = 10
    against: frozenset[Modality] | None = None
    encoders: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "fp32"
    trust_code: bool = False


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric of two generations over the same queries, and the paired difference: the second minus the first.

    The metric is named as ``ndcg@10``; ``r`` is the share of queries with any right item among so many.
    """

    metric: str
    one: Interval
    other: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class RankingQuality:
    """Ranking quality of both generations: the metric that decides comes first, and `verdict` is its conclusion."""

    measures: tuple[MetricChange, ...]
    verdict: Literal["better", "no difference", "worse"]


@dataclass(frozen=True, slots=True)
class GenerationAnswers:
    """How one generation answered.

    `items` are how many of the store's items it can find now, `recall` is that of its index against exact search of its
    own vectors, and `reasons` are why queries were not answered, each once, the commonest first.
    """

    number: int
    encoders: str
    items: int
    recall: Recall
    unanswered: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """Result of a comparison of two generations by lists of k.

    Attributes:
        answered: How many of the queries both answered.
        sides: Both generations, in the order they were named.
        overlap: Share of a query's lists that is in both.
        judged: How many of the answered queries name a right item that is in the store.
        unknown: How many of the ids that queries name as right are not in the store.
        quality: Which lists are better; None without a judged query.

    """

    k: int
    queries: int
    answered: int
    sides: tuple[GenerationAnswers, GenerationAnswers]
    overlap: Interval
    judged: int
    unknown: int
    quality: RankingQuality | None


def compare(options: CompareOptions, media: MediaAccess, reporter: Reporter = SILENT) -> ComparisonResult:
    """Compare two generations on a file of queries. Raises UsageError, StoreError; see `mmrec.errors`."""
    layout = Layout(options.store)
    layout.check()
    for given in options.encoders:
        record_consent(layout, given)
    queries = read_judged_queries(options.queries)

    @cache
    def load(source: str) -> Sequence[Encoder]:
        return load_encoders(source, device=options.device, dtype=options.dtype, trust_code=options.trust_code)

    def maker_of(generation: Generation) -> QueryMaker:
        @cache
        def encoders(made_with: str) -> Sequence[Encoder]:
            return _encoders(layout, generation, made_with, options.encoders, load, reporter)

        return QueryMaker(encoders, media)

    return compare_generations(layout, options.generations, queries, maker_of, k=options.k, against=options.against)


def _encoders(
    layout: Layout,
    generation: Generation,
    made_with: str,
    given: Sequence[str],
    load: Callable[[str], Sequence[Encoder]],
    reporter: Reporter,
) -> Sequence[Encoder]:
    """Encoders of a generation's queries.

    Those given, where they fill all its spaces, or some and what it was made with may not be reopened; else those that
    it was made with.
    """
    spaces = [block.space for block in generation.fusion.blocks]
    found = best_encoders(map(load, given), spaces)
    if found is not None and (covers(found, spaces) or not is_consented(layout, made_with)):
        return found
    check_encoders(layout, made_with, reporter.ask_yes_no)
    return load(made_with)


@dataclass(frozen=True, slots=True)
class _Answers:
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
) -> ComparisonResult:
    """Search two generations with the same queries, and compare the lists. Nothing is changed.

    Args:
        layout: The store.
        pair: Numbers of the generations; the second is judged against the first.
        queries: The queries; equal ones are drawn together in the bootstrap.
        maker_of: What encodes the queries for a generation, with the encoders it was made with.
        k: Length of the lists.
        against: Which modalities of the items count; all if None.
        seed: Seed of the bootstrap and of the measurement of the indexes.

    Raises:
        UsageError: There is no such generation, or no query that both can answer.
        SpaceMismatchError: Encoders that are not those of their generation.
        StoreError: A generation is damaged, or its encoders are not known.

    """
    existing = generation_numbers(layout)
    for number in pair:
        if number not in existing:
            raise UsageError(f"{layout.root} has no generation {number}; there are {existing}")
    if k < 1:
        raise UsageError(f"k must be at least 1; got {k}")
    items = ItemTable(layout.items)
    snapshots = [snapshot_of(layout, open_generation(layout, number), items) for number in pair]
    one, other = (_search(each, queries, maker_of(each.generation), k, against) for each in snapshots)
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
    return ComparisonResult(
        k=k,
        queries=len(queries),
        answered=len(both),
        sides=(_side(snapshots[0], one, seed), _side(snapshots[1], other, seed)),
        overlap=interval(shared[None], clusters[both], seed=seed),
        judged=len(judged),
        unknown=len(named - known.keys()),
        quality=quality,
    )


def _search(
    snapshot: Snapshot, queries: Sequence[JudgedQuery], maker: QueryMaker, k: int, against: frozenset[Modality] | None
) -> _Answers:
    answers = _Answers([None] * len(queries), Counter())
    vectors = {}
    for place, query in enumerate(queries):
        try:
            vectors[place] = maker.make([query.part], snapshot, against)
        except SpaceMismatchError:
            raise
        except (UsageError, MediaError) as error:
            answers.reasons[str(error)] += 1
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
                itself = _row_of(snapshot, queries[place])
                answers.lists[place] = [row for row in near if row >= 0 and row != itself][:k]
    return answers


def _row_of(snapshot: Snapshot, query: JudgedQuery) -> int | None:
    """The item that a query is, which does not answer itself."""
    if query.part.kind != "item":
        return None
    return snapshot.items.rows_of([str(query.part.value)])[str(query.part.value)]


def _side(snapshot: Snapshot, answers: _Answers, seed: int) -> GenerationAnswers:
    generation = snapshot.generation
    return GenerationAnswers(
        number=generation.manifest.number,
        encoders=generation.manifest.encoders,
        items=len(snapshot.index),
        recall=measure_search(generation.index, generation.rows, generation.vectors, seed),
        unanswered=answers.reasons.total(),
        reasons=tuple(reason for reason, _ in answers.reasons.most_common()),
    )


def _clusters(queries: Sequence[JudgedQuery]) -> Int64[np.ndarray, " q"]:
    """A number for each query, the same for equal ones."""
    numbered: dict[tuple[str, str], int] = {}
    return np.array(
        [numbered.setdefault((q.part.kind, str(q.part.value)), len(numbered)) for q in queries], dtype=np.int64
    )


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of the longer of two lists that is in both; two empty ones are alike."""
    longer = max(len(one), len(other))
    return len(set(one) & set(other)) / longer if longer else 1.0


def quality_of(
    one: Sequence[Sequence[int]],
    other: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    clusters: Int64[np.ndarray, " q"],
    k: int,
    seed: int = 0,
) -> RankingQuality:
    """Measure two lists of rows for each query, best first and k at most, against the rows that are right.

    NDCG@k alone decides, so that nothing is claimed because one of several figures happened to be high: better where
    the whole 95% interval of the paired difference lies above zero, worse where it lies below. Queries of one cluster
    are drawn together in the bootstrap.
    """
    measures = []
    for name, metric, cut in (("ndcg", "ndcg", k), ("mrr", "mrr", k), ("r", "hr", 1), ("r", "hr", k)):
        first, second = (_metric_per_query(lists, right, metric, cut) for lists in (one, other))
        measures.append(MetricChange(f"{name}@{cut}", *before_and_after(first, second, clusters, seed)))
    unlike = {measure.metric: measure for measure in measures}  # at k = 1 one of them is there twice
    return RankingQuality(tuple(unlike.values()), _WORDS[measures[0].difference.sign])


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
