"""The job behind ``mmrec compare``."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from mmrec.comparing import Answering, Compared, compare_generations, read_judged_queries
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.queries import covers, fitting
from mmrec.evaluation.bootstrap import Interval
from mmrec.evaluation.report import figure, signed
from mmrec.generation.generation import Generation
from mmrec.queries import QueryMaker
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.layout import Layout
from mmrec.trust import check_encoders, may_reopen, remember
from mmrec.types import Modality
from pipelines import console

_CHANGE: Final = "difference (95%)"


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """One run of ``mmrec compare``.

    Attributes:
        store: The store's directory.
        generations: The two, of which the second is judged against the first.
        queries: File of queries.
        k: Length of the lists.
        against: Which modalities of the items count; all if None.
        encoders: What may have made the generations, beside what they name themselves and may be reopened.
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


def compare(asked: CompareOptions, media: MediaAccess) -> Compared:
    """Compare two generations on a file of queries. Raises UsageError, StoreError; see `mmrec.errors`."""
    layout = Layout(asked.store)
    layout.check()
    for given in asked.encoders:
        remember(layout, given)
    queries = read_judged_queries(asked.queries)

    @cache
    def load(source: str) -> Sequence[Encoder]:
        return load_encoders(source, device=asked.device, dtype=asked.dtype, trust_code=asked.trust_code)

    def maker_of(generation: Generation) -> QueryMaker:
        @cache
        def encoders(made_with: str) -> Sequence[Encoder]:
            return _encoders(layout, generation, made_with, asked.encoders, load)

        return QueryMaker(encoders, media)

    return compare_generations(layout, asked.generations, queries, maker_of, k=asked.k, against=asked.against)


def print_comparison(found: Compared, *, as_json: bool) -> None:
    """Print both generations side by side, and say in a sentence what came of it."""
    said = _sentences(found)
    if as_json:
        console.emit_json(_document(found, said))
    else:
        console.data.print(console.table(("", *_names(found), _CHANGE), _rows(found), numbers=(_CHANGE,)))
    for side in found.sides:
        if side.unanswered:
            console.warn(
                f"Generation {side.number} could not answer {side.unanswered:,} of the queries: {side.reasons[0]}"
            )
    if found.unknown:
        console.warn(f"{found.unknown:,} of the ids that the queries name as right are not in the store.")
    for sentence in said:
        console.note(sentence)


def _encoders(
    layout: Layout,
    generation: Generation,
    made_with: str,
    given: Sequence[str],
    load: Callable[[str], Sequence[Encoder]],
) -> Sequence[Encoder]:
    """The encoders given that fill a generation's spaces, or else what it was made with where that may be reopened."""
    spaces = [block.space for block in generation.fusion.blocks]
    found = fitting(map(load, given), spaces)
    if found is not None and (covers(found, spaces) or not may_reopen(layout, made_with)):
        return found
    check_encoders(layout, made_with, console.confirmed)
    return load(made_with)


def _sentences(found: Compared) -> list[str]:
    one, other = (side.number for side in found.sides)
    asked = f"{found.answered:,} quer{'y' if found.answered == 1 else 'ies'}"
    shared = f"Of the first {found.k} of {asked}, generations {one} and {other} share {found.overlap.mean:.1%}"
    said = [f"{shared}{_between(found.overlap)}."]
    if found.quality is None:
        return [*said, "Which is better was not asked: name the right items of each query in the column 'relevant'."]
    first = found.quality.measures[0]
    verdict = {
        "better": f"Generation {other} answers better than generation {one}",
        "no difference": f"Between generations {one} and {other} there is no difference that can be told from chance",
        "worse": f"Generation {other} answers worse than generation {one}",
    }[found.quality.word]
    judged = f"{found.judged:,} judged quer{'y' if found.judged == 1 else 'ies'}"
    change = f"difference {first.difference.mean:+.3f}{_between(first.difference, '+.3f')}"
    figures = f"{first.one.mean:.3f} and {first.other.mean:.3f}"
    return [*said, f"{verdict}: {first.metric.upper()} of {judged} is {figures} ({change})."]


def _between(one: Interval, form: str = ".1%") -> str:
    if math.isnan(one.low):
        return ", too few queries for an interval"
    return f", 95% interval {one.low:{form}} to {one.high:{form}}"


def _names(found: Compared) -> tuple[str, str]:
    one, other = (f"generation {side.number}" for side in found.sides)
    return (one, other) if one != other else (one, f"{other} again")


def _rows(found: Compared) -> list[tuple[object, ...]]:
    one, other = found.sides
    rows: list[tuple[object, ...]] = [
        ("encoders", one.encoders, other.encoders, ""),
        ("items", one.items, other.items, ""),
        ("not answered", one.unanswered, other.unanswered, ""),
        ("recall of index", one.recall.recall, other.recall.recall, ""),
    ]
    for measure in found.quality.measures if found.quality else ():
        change = measure.difference
        told = f"{signed(change.mean)} ({signed(change.low)} to {signed(change.high)})"
        rows.append((measure.metric.upper(), figure(measure.one.mean), figure(measure.other.mean), told))
    return rows


def _document(found: Compared, said: Sequence[str]) -> dict[str, object]:
    quality = found.quality
    return {
        "k": found.k,
        "queries": found.queries,
        "answered": found.answered,
        "generations": [_side(side) for side in found.sides],
        "overlap": asdict(found.overlap),
        "judged": found.judged,
        "unknown_relevant": found.unknown,
        "quality": None if quality is None else {one.metric: asdict(one) for one in quality.measures},
        "verdict": None if quality is None else quality.word,
        "sentences": list(said),
    }


def _side(side: Answering) -> dict[str, object]:
    return {**asdict(side), "recall": side.recall.recall, "self_query": side.recall.self_query}
