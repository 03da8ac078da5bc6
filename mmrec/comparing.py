"""Two generations of a store answer the same queries, side by side.

Both are searched over the same version of the items, each with its own fusion, index and encoders. How alike their
lists are needs no judgement; which lists are better is said only where the queries name the items that answer them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from indexers.recall import Recall
from mmrec.errors import MediaError, SpaceMismatchError, UsageError
from mmrec.evaluation.bootstrap import Interval, interval
from mmrec.generation.checks import measure_search
from mmrec.generation.generation import Generation, open_generation
from mmrec.judged_queries import JudgedQuery
from mmrec.list_quality import Quality, overlap, quality_of
from mmrec.modality import Modality
from mmrec.queries import QueryMaker
from mmrec.snapshot import Snapshot, snapshot_of
from mmrec.store.generations import numbers
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout

__all__ = ["Answering", "Compared", "compare_generations"]

_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Answering:
    """How one generation answered.

    Attributes:
        number: Its number.
        encoders: What it was made with.
        items: How many of the store's items it can find now.
        recall: Its index against exact search of its own vectors.
        unanswered: How many of the queries it could not answer.
        reasons: Why, each reason once, the commonest first.

    """

    number: int
    encoders: str
    items: int
    recall: Recall
    unanswered: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it.

    Attributes:
        k: Length of the lists.
        queries: How many were asked.
        answered: How many both answered.
        sides: Both generations, in the order they were named.
        overlap: Share of a query's lists that is in both.
        judged: How many of the answered queries name a right item that is in the store.
        unknown: How many of the ids that queries name as right are not in the store.
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
    """Ask two generations the same, and compare what they find. Nothing is changed.

    Args:
        layout: The store.
        pair: Numbers of the generations; the second is judged against the first.
        queries: What is asked; equal ones are one witness.
        maker_of: What encodes the queries for a generation, with the encoders it was made with.
        k: Length of the lists.
        against: Which modalities of the items count; all if None.
        seed: Of what is drawn.

    Raises:
        UsageError: There is no such generation, or no query that both can answer.
        SpaceMismatchError: Encoders that are not those of their generation.
        StoreError: A generation is damaged, or its encoders are not known.

    """
    _check(layout, pair, k)
    items = ItemTable(layout.items)
    snapshots = [snapshot_of(layout, open_generation(layout, number), items) for number in pair]
    one, other = (_ask(each, queries, maker_of(each.generation), k, against) for each in snapshots)
    both = [at for at in range(len(queries)) if one.lists[at] is not None and other.lists[at] is not None]
    if not both:
        reason = next(iter((one.reasons + other.reasons).most_common(1)), ("the file holds none", 0))[0]
        raise UsageError(f"generations {pair[0]} and {pair[1]} have no query that both can answer: {reason}")
    units = _units(queries)
    shared = np.array([overlap(one.lists[at] or [], other.lists[at] or []) for at in both])
    named = {name for query in queries for name in query.relevant}
    known = items.rows_of(sorted(named))
    right = {at: [known[name] for name in queries[at].relevant if name in known] for at in both}
    judged = [at for at in both if right[at]]
    quality = None
    if judged:
        was, now = ([found.lists[at] or [] for at in judged] for found in (one, other))
        quality = quality_of(was, now, [right[at] for at in judged], units[judged], k, seed)
    return Compared(
        k=k,
        queries=len(queries),
        answered=len(both),
        sides=(_answering(snapshots[0], one, seed), _answering(snapshots[1], other, seed)),
        overlap=interval(shared[None], units[both], seed=seed),
        judged=len(judged),
        unknown=len(named - known.keys()),
        quality=quality,
    )


def _check(layout: Layout, pair: tuple[int, int], k: int) -> None:
    there = numbers(layout)
    for number in pair:
        if number not in there:
            raise UsageError(f"{layout.root} has no generation {number}; there are {there}")
    if k < 1:
        raise UsageError(f"k must be at least 1; got {k}")


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
    k = min(k, max(1, len(snapshot.live)))  # more would only cost memory
    places = list(vectors)
    for start in range(0, len(places), _QUERIES_AT_ONCE):
        some = places[start : start + _QUERIES_AT_ONCE]
        rows = snapshot.live.search(np.stack([vectors[place] for place in some]), k + 1, allowed=allowed).rows
        for place, near in zip(some, rows.tolist(), strict=True):
            itself = _row_of(snapshot, queries[place])
            found.lists[place] = [row for row in near if row >= 0 and row != itself][:k]
    return found


def _row_of(snapshot: Snapshot, query: JudgedQuery) -> int | None:
    """The item that a query is, which does not answer itself."""
    if query.part.kind != "item":
        return None
    return snapshot.items.rows_of([query.part.value])[query.part.value]


def _answering(snapshot: Snapshot, found: _Found, seed: int) -> Answering:
    generation = snapshot.generation
    return Answering(
        number=generation.manifest.number,
        encoders=generation.manifest.encoders,
        items=len(snapshot.live),
        recall=measure_search(generation.index, generation.rows, generation.vectors, seed),
        unanswered=found.reasons.total(),
        reasons=tuple(reason for reason, _ in found.reasons.most_common()),
    )


def _units(queries: Sequence[JudgedQuery]) -> Int64[np.ndarray, " q"]:
    """A number for each query, the same for equal ones."""
    numbered: dict[tuple[str, str], int] = {}
    return np.array([numbered.setdefault((q.part.kind, q.part.value), len(numbered)) for q in queries], dtype=np.int64)
