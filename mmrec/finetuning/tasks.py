"""An objective with what it learns from, and the questions about items that are held out of it."""

import numpy as np
from jaxtyping import Int64

from mmrec.behaviour.cleaning import Cleaning, clean
from mmrec.behaviour.event_arrays import load_events
from mmrec.behaviour.histories import Histories
from mmrec.behaviour.known_items import KnownItems
from mmrec.behaviour.log import EventLog
from mmrec.behaviour.ratings import read_ratings
from mmrec.errors import UsageError
from mmrec.finetuning.align import Align
from mmrec.finetuning.coengage_task import co_engaged
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.held_out import HeldOut, hold_out
from mmrec.finetuning.label import Label
from mmrec.finetuning.material import Material
from mmrec.finetuning.questions import Questions, across, of_items
from mmrec.finetuning.task import Kind, Task
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout

__all__ = ["task_of"]


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
    events = clean(load_events(log.scan()), rules, known)[0]
    histories = Histories.of(events, known, read_ratings(events, rules.kinds))
    return co_engaged(corpus, histories, histories.weights(rules.kinds.weights) > 0, config)


def _align(corpus: Corpus, config: FinetuneConfig) -> Task:
    some = np.zeros(len(corpus), dtype=bool)
    for pair in config.align.pairs:
        some |= corpus.have(*pair)
    held = hold_out(corpus, np.flatnonzero(some), config.held_out, config.seed)
    checked, asked = (
        across(corpus, config.align.pairs, part, held.groups, held.untaught) for part in (held.validation, held.test)
    )
    objective = Align(corpus, held.train, config)
    pairs = {f"{one}-{other} pairs": len(items) for (one, other), items in objective.items.items()}
    return Task(objective, held.train, checked, asked, False, {**held.sizes, **pairs})


def _label(corpus: Corpus, material: Material, config: FinetuneConfig) -> Task:
    values = sorted({str(value) for value in material.labels if value is not None})
    numbers = {value: number for number, value in enumerate(values)}
    labels = np.array([-1 if value is None else numbers[str(value)] for value in material.labels], dtype=np.int64)
    items = np.flatnonzero((labels >= 0) & corpus.placed)
    # What is alone with its value can neither teach nor be asked for.
    items = items[np.bincount(labels[items], minlength=len(values))[labels[items]] > 1]
    held = hold_out(corpus, items, config.held_out, config.seed)
    checked, asked = (_label_questions(corpus, labels, part, items, held) for part in (held.validation, held.test))
    counts = {**held.sizes, "labels": len(values)}
    return Task(Label(corpus, held.train, labels, config), held.train, checked, asked, True, counts, "r@1", (labels,))


def _label_questions(
    corpus: Corpus,
    labels: Int64[np.ndarray, " items"],
    asking: Int64[np.ndarray, " n"],
    items: Int64[np.ndarray, " m"],
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
