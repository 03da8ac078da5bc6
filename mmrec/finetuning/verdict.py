"""Compare encoders before and after fine-tuning on held-out items, and judge whether it helped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from mmrec.evaluation.bootstrap import Interval, before_and_after
from mmrec.files import write_atomically
from mmrec.finetuning.questions import METRICS, RetrievalRanks, pooled

_FILE = "verdict.json"

Word = Literal["helped", "no difference", "hurt"]
_WORDS: Final[Mapping[int, Word]] = {1: "helped", 0: "no difference", -1: "hurt"}
_SENTENCES: Final[Mapping[Word, str]] = {
    "helped": "Fine-tuning helped",
    "no difference": "Fine-tuning made no significant difference",
    "hurt": "Fine-tuning hurt",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A metric (``r@1``, ``r@10``, ``mrr`` or ``median``) of one kind of question, or ``all``, before and after.

    The difference is after minus before, with its paired interval; the ends of a median's intervals are NaN.
    """

    asked: str
    metric: str
    questions: int
    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True, slots=True)
class Verdict:
    """The table of metrics, its conclusion by the metric that decides, and the same as a sentence with its numbers."""

    word: Word
    sentence: str
    metric: str
    lines: tuple[Line, ...]


def judge(
    before: Mapping[str, RetrievalRanks], after: Mapping[str, RetrievalRanks], metric: str = "r@10", seed: int = 0
) -> Verdict:
    """Compare the answers to the same questions by a bootstrap over units: questions of one group are drawn together.

    It helped where the whole 95% interval of the difference lies above zero over all questions together, and hurt where
    it lies below; where a kind of question alone was hurt, the sentence says so.
    """
    lines = [line for name in before for line in _lines(name, before[name], after[name], seed)]
    whole = _lines("all", pooled(list(before.values())), pooled(list(after.values())), seed)
    overall = next(line for line in whole if line.metric == metric)
    word = _WORDS[overall.difference.sign]
    worse = [line.asked for line in lines if line.metric == metric and line.difference.sign < 0]
    aside = f" It hurt {', '.join(worse)}." if worse and word != "hurt" else ""
    return Verdict(word, _sentence(word, overall) + aside, metric, tuple(lines + whole if len(before) > 1 else lines))


def write_verdict(verdict: Verdict, folder: Path) -> None:
    """Write the verdict into a folder of encoders."""
    content = {"word": verdict.word, "sentence": verdict.sentence}
    write_atomically(folder / _FILE, json.dumps(content, indent=1).encode())


def read_verdict(folder: Path) -> tuple[str, str] | None:
    """Return the word and the sentence of a folder of encoders; None where there is no verdict."""
    try:
        found = json.loads((folder / _FILE).read_bytes())
        return str(found["word"]), str(found["sentence"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lines(name: str, before: RetrievalRanks, after: RetrievalRanks, seed: int) -> list[Line]:
    count = len(before.units)
    lines = []
    for metric in METRICS:
        intervals = before_and_after(before.metric(metric), after.metric(metric), before.units, seed)
        lines.append(Line(name, metric, count, *intervals))
    medians = (before.median, after.median, after.median - before.median)
    return [*lines, Line(name, "median", count, *(Interval(value, np.nan, np.nan, 0, count) for value in medians))]


def _sentence(word: Word, line: Line) -> str:
    change, asked = line.difference, f"{line.questions:,} held-out question{'s' if line.questions != 1 else ''}"
    sure = f"95% interval {change.low:+.3f} to {change.high:+.3f}"
    if np.isnan(change.low):
        sure = "all of one group, so that there is no interval; hold out more"
    return (
        f"{_SENTENCES[word]}: {line.metric.upper()} on {asked} was {line.before.mean:.3f} before and "
        f"{line.after.mean:.3f} after (difference {change.mean:+.3f}, {sure})."
    )
