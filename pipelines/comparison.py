"""Print a comparison of two generations as a table or JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from mmrec.evaluation.bootstrap import Interval
from mmrec.evaluation.report import figure, signed
from mmrec.jobs.compare import ComparisonResult, GenerationAnswers
from pipelines import console

_CHANGE: Final = "difference (95%)"


def print_comparison(found: ComparisonResult, *, as_json: bool) -> None:
    """Print both generations side by side, and the result in sentences."""
    sentences = _sentences(found)
    if as_json:
        console.emit_json(_document(found, sentences))
    else:
        console.data.print(console.table(("", *_names(found), _CHANGE), _rows(found), numbers=(_CHANGE,)))
    for side in found.sides:
        if side.unanswered:
            console.warn(
                f"Generation {side.number} could not answer {side.unanswered:,} of the queries: {side.reasons[0]}"
            )
    if found.unknown:
        console.warn(f"{found.unknown:,} of the ids that the queries name as right are not in the store.")
    for sentence in sentences:
        console.note(sentence)


def _sentences(found: ComparisonResult) -> list[str]:
    one, other = (side.number for side in found.sides)
    queries = f"{found.answered:,} quer{'y' if found.answered == 1 else 'ies'}"
    shared = f"Of the first {found.k} of {queries}, generations {one} and {other} share {found.overlap.mean:.1%}"
    sentences = [f"{shared}{_between(found.overlap)}."]
    if found.quality is None:
        return [*sentences, "Which is better is unknown: name the right items of each query in the column 'relevant'."]
    first = found.quality.measures[0]
    verdict = {
        "better": f"Generation {other} answers better than generation {one}",
        "no difference": f"Between generations {one} and {other} there is no significant difference",
        "worse": f"Generation {other} answers worse than generation {one}",
    }[found.quality.verdict]
    judged = f"{found.judged:,} judged quer{'y' if found.judged == 1 else 'ies'}"
    change = f"difference {first.difference.mean:+.3f}{_between(first.difference, '+.3f')}"
    figures = f"{first.one.mean:.3f} and {first.other.mean:.3f}"
    return [*sentences, f"{verdict}: {first.metric.upper()} of {judged} is {figures} ({change})."]


def _between(one: Interval, form: str = ".1%") -> str:
    if math.isnan(one.low):
        return ", too few queries for an interval"
    return f", 95% interval {one.low:{form}} to {one.high:{form}}"


def _names(found: ComparisonResult) -> tuple[str, str]:
    one, other = (f"generation {side.number}" for side in found.sides)
    return (one, other) if one != other else (one, f"{other} again")


def _rows(found: ComparisonResult) -> list[tuple[object, ...]]:
    one, other = found.sides
    rows: list[tuple[object, ...]] = [
        ("encoders", one.encoders, other.encoders, ""),
        ("items", one.items, other.items, ""),
        ("not answered", one.unanswered, other.unanswered, ""),
        ("recall of index", one.recall.recall, other.recall.recall, ""),
    ]
    for measure in found.quality.measures if found.quality else ():
        change = measure.difference
        shown = f"{signed(change.mean)} ({signed(change.low)} to {signed(change.high)})"
        rows.append((measure.metric.upper(), figure(measure.one.mean), figure(measure.other.mean), shown))
    return rows


def _document(found: ComparisonResult, sentences: Sequence[str]) -> dict[str, object]:
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
        "verdict": None if quality is None else quality.verdict,
        "sentences": list(sentences),
    }


def _side(side: GenerationAnswers) -> dict[str, object]:
    return {**asdict(side), "recall": side.recall.recall, "self_query": side.recall.self_query}
