"""An objective with what it learns from, and the questions about items that are held out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Int64

from mmrec.behaviour.cleaning import Cleaning, clean
from mmrec.behaviour.event_arrays import load_events
from mmrec.behaviour.histories import Histories
from mmrec.behaviour.known_items import KnownItems
from mmrec.behaviour.log import EventLog
from mmrec.errors import UsageError
from mmrec.finetuning.align import Align
from mmrec.finetuning.coengage import CoEngage, pairs_of
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.held_out import HeldOut, hold_out
from mmrec.finetuning.label import Label
from mmrec.finetuning.material import Material
from mmrec.finetuning.objective import Objective
from mmrec.finetuning.questions import Questions, across, of_items
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout

__all__ = ["SENTENCES", "Kind", "Task", "co_engaged", "task_of"]

Kind = Literal["align", "coengage", "label"]
SENTENCES: Final[Mapping[str, str]] = {
    "align": "Contents of different kinds that are of one item attract each other.",
    "coengage": "Items that the same people take one after the other attract each other.",
    "label": "Items of one label attract each other.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is learned, and what is asked.

    Attributes:
        objective: The objective.
        train: The items that are learned from.
        validation: Questions that say when to stop.
        test: Questions that say whether it helped.
        whole_items: Whether whole items are compared rather than single contents.
        counts: How much is learned from.
        metric: What is judged by. Of one label there are many items: one of them is among the first ten in any case,
            and only whether it is the first of all tells anything.

    """

    objective: Objective
    train: Int64[np.ndarray, "n"]
    validation: Questions
    test: Questions
    whole_items: bool
    counts: Mapping[str, int]
    metric: str = "r@10"


def task_of(kind: Kind, layout: Layout, material: Material, config: FinetuneConfig, log: EventLog | None) -> Task:
    """Hold items out and make the task of an objective.

    Raises UsageError where there is nothing to learn from, or nothing to ask of what is held out.
    """
    task = _task_of(kind, layout, material, config, log)
    if not len(task.test):
        raise UsageError(
            f"Nothing can be asked of the {task.counts['test']} items that are held out for the verdict: none has a "
            "partner that is right. Give held_out.test a larger share, another seed, or more data."
        )
    return task


def _task_of(kind: Kind, layout: Layout, material: Material, config: FinetuneConfig, log: EventLog | None) -> Task:
    corpus = material.corpus
    match kind:
        case "align":
            return _align(corpus, config)
        case "label":
            return _label(corpus, material, config)
    if log is None:
        raise UsageError("co-engagement is learned from events: import some with `mmrec events import STORE FILE`")
    known = KnownItems.of(ItemTable(layout.items).id_rows()).among(corpus.rows)
    rules = Cleaning()
    histories = Histories.of(clean(load_events(log.scan()), rules, known)[0], known)
    weights = np.array([rules.kinds.weights[name] for name in histories.kind_names])
    return co_engaged(corpus, histories, weights[histories.kinds] > 0, config)


def _align(corpus: Corpus, config: FinetuneConfig) -> Task:
    some = np.zeros(len(corpus), dtype=bool)
    for pair in config.align.pairs:
        some |= corpus.have(*pair)
    held = hold_out(corpus, np.flatnonzero(some), config.held_out, config.seed)
    checked, asked = (across(corpus, config.align.pairs, part, held.groups) for part in (held.validation, held.test))
    objective = Align(corpus, held.train, config)
    pairs = {f"{one}-{other} pairs": len(items) for (one, other), items in objective.items.items()}
    return Task(objective, held.train, checked, asked, False, {**_sizes(held), **pairs})


def _label(corpus: Corpus, material: Material, config: FinetuneConfig) -> Task:
    values = sorted({str(value) for value in material.labels if value is not None})
    numbers = {value: number for number, value in enumerate(values)}
    labels = np.array([-1 if value is None else numbers[str(value)] for value in material.labels], dtype=np.int64)
    items = np.flatnonzero((labels >= 0) & _placed(corpus))
    # What is alone with its value can neither teach nor be asked for.
    items = items[np.bincount(labels[items], minlength=len(values))[labels[items]] > 1]
    held = hold_out(corpus, items, config.held_out, config.seed)
    checked, asked = (_label_questions(corpus, labels, part, items, held) for part in (held.validation, held.test))
    counts = {**_sizes(held), "labels": len(values)}
    return Task(Label(corpus, held.train, labels, config), held.train, checked, asked, True, counts, "r@1")


def _label_questions(
    corpus: Corpus,
    labels: Int64[np.ndarray, "items"],
    asking: Int64[np.ndarray, "n"],
    items: Int64[np.ndarray, "m"],
    held: HeldOut,
) -> Questions:
    pairs, units = [], []
    for item in asking.tolist():
        right = items[(labels[items] == labels[item]) & (items != item)]
        if len(right):
            pairs.append((item, right.tolist()))
            units.append(int(held.groups[item]))
    name = "same label"
    return of_items(corpus, {name: pairs} if pairs else {}, {name: units})


def co_engaged(corpus: Corpus, histories: Histories, speaking: Bool[np.ndarray, "n"], config: FinetuneConfig) -> Task:
    """Learn from pairs before a cutoff of items that are not held out.

    Asked is, from the item before, for the next item: of those pairs before the cutoff whose later item is held out for
    validation; and for the verdict of those after the cutoff, and of held-out items.
    """
    cutoff = np.quantile(histories.times, config.coengage.before) if len(histories.times) else 0
    held = hold_out(corpus, np.flatnonzero(_placed(corpus)), config.held_out, config.seed)
    early = histories.times < cutoff
    left, right, people = _places(corpus, histories, speaking & early, config)
    learned = np.isin(left, held.train) & np.isin(right, held.train)
    objective = CoEngage(corpus, (left[learned], right[learned]), config)
    validation = np.isin(left, held.train) & np.isin(right, held.validation)
    new = ~np.isin(left, held.test) & np.isin(right, held.test)
    kinds = {"the next item, one held out": (left[new], right[new], people[new])}
    later = _places(corpus, histories, speaking & ~early, config)
    if len(later[0]):
        kinds["the next item, later"] = later
    checked = {"the next item": (left[validation], right[validation], people[validation])}
    counts = {**_sizes(held), "pairs": int(learned.sum()), "people": len(histories)}
    asked = _pair_questions(corpus, kinds)
    return Task(objective, held.train, _pair_questions(corpus, checked), asked, True, counts)


def _pair_questions(corpus: Corpus, kinds: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Questions:
    asked = {
        name: [(one, [after]) for one, after in zip(left.tolist(), right.tolist(), strict=True)]
        for name, (left, right, _) in kinds.items()
        if len(left)
    }
    return of_items(corpus, asked, {name: people.tolist() for name, (_, _, people) in kinds.items()})


def _places(
    corpus: Corpus, histories: Histories, speaking: Bool[np.ndarray, "n"], config: FinetuneConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs as places of items that have a content."""
    left, right, people = pairs_of(histories, speaking, config.coengage)
    sides = [np.minimum(np.searchsorted(corpus.rows, side), len(corpus) - 1) for side in (left, right)]
    placed = _placed(corpus)
    there = np.ones(len(left), dtype=bool)
    for rows, at in zip((left, right), sides, strict=True):
        there &= (corpus.rows[at] == rows) & placed[at]
    return sides[0][there], sides[1][there], people[there]


def _placed(corpus: Corpus) -> Bool[np.ndarray, "items"]:
    some = np.zeros(len(corpus), dtype=bool)
    for modality in corpus.contents:
        some |= corpus.have(modality)
    return some


def _sizes(held: HeldOut) -> dict[str, int]:
    return {"trained on": len(held.train), "validation": len(held.validation), "test": len(held.test)}
