"""Training tasks: what each objective trains on, and the questions about held-out items that judge it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mmrec.errors import UsageError
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.log import EventLog
from mmrec.events.ratings import read_ratings
from mmrec.finetuning.align import Align, Label
from mmrec.finetuning.coengage import CoEngage, co_occurrence, pairs_of, ppmi_vectors
from mmrec.finetuning.config import FinetuneConfig, ObjectiveName
from mmrec.finetuning.corpus import Corpus, HeldOut, hold_out
from mmrec.finetuning.material import TrainingData
from mmrec.finetuning.objective import FinetuneObjective
from mmrec.finetuning.questions import HeldOutQuestions, cross_modal_questions, item_questions
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneTask:
    """A training objective, the training items, and the questions for early stopping and for the verdict.

    Attributes:
        whole_items: Whether whole items are compared rather than single contents.
        metric: The metric that decides: R@1 for labels, which have so many items that one of them is near the top in
            any case; the reciprocal rank for others, since with few held-out items R@10 would be reached by chance.
        pairs_or_labels: What of a store or a log, beside its contents, decides the steps.
        targets: Where items should lie for heads in closed form, a row each, zero for those of which nothing is known;
            None where a frozen modality says so.

    """

    objective: FinetuneObjective
    train: Int64[np.ndarray, " n"]
    validation: HeldOutQuestions
    test: HeldOutQuestions
    whole_items: bool
    counts: Mapping[str, int]
    metric: str = "mrr"
    pairs_or_labels: tuple[Int64[np.ndarray, " _"], ...] = ()
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None


def make_task(
    objective: ObjectiveName, layout: Layout, data: TrainingData, config: FinetuneConfig, log: EventLog | None
) -> FinetuneTask:
    """Hold items out and make the task of an objective.

    Raises UsageError where there is nothing to learn from, or nothing to ask of what is held out.
    """
    match objective:
        case "align":
            task = _align(data.corpus, config)
        case "label":
            task = _label(data, config)
        case "coengage":
            if log is None:
                raise UsageError(
                    "co-engagement is learned from events: import some with `mmrec events import STORE FILE`"
                )
            known = KnownItems.of(ItemTable(layout.items).id_rows()).among(data.corpus.rows)
            rules = Cleaning()
            events = clean(load_events(log.scan()), rules, known)[0]
            histories = Histories.of(events, known, read_ratings(events, rules.kinds))
            task = co_engaged(data.corpus, histories, histories.weights(rules.kinds.weights) > 0, config)
    if not len(task.test):
        raise UsageError(
            f"Nothing can be asked of the {task.counts['test']} items that are held out for the verdict: none has a "
            "partner that is right. Give held_out.test a larger share, another seed, or more data."
        )
    return task


def _align(corpus: Corpus, config: FinetuneConfig) -> FinetuneTask:
    some = np.any([corpus.have(*pair) for pair in config.align.pairs], axis=0)
    held = hold_out(corpus, np.flatnonzero(some), config.held_out, config.seed)
    validation, test = (
        cross_modal_questions(corpus, config.align.pairs, part, held.groups, held.not_trained)
        for part in (held.validation, held.test)
    )
    objective = Align(corpus, held.train, config)
    pairs = {f"{one}-{other} pairs": len(items) for (one, other), items in objective.items.items()}
    return FinetuneTask(objective, held.train, validation, test, False, {**held.sizes, **pairs})


def _label(data: TrainingData, config: FinetuneConfig) -> FinetuneTask:
    corpus, values = data.corpus, sorted({str(value) for value in data.labels if value is not None})
    numbers = {value: number for number, value in enumerate(values)}
    labels = np.array([-1 if value is None else numbers[str(value)] for value in data.labels], dtype=np.int64)
    items = np.flatnonzero((labels >= 0) & corpus.placed)
    # An item that is alone with its value can be neither trained on nor evaluated.
    items = items[np.bincount(labels[items], minlength=len(values))[labels[items]] > 1]
    held = hold_out(corpus, items, config.held_out, config.seed)

    def questions(queries: Int64[np.ndarray, " n"]) -> HeldOutQuestions:
        right = {item: items[(labels[items] == labels[item]) & (items != item)].tolist() for item in queries.tolist()}
        asked = [(item, others, int(held.groups[item])) for item, others in right.items() if others]
        return item_questions(corpus, {"same label": asked})

    return FinetuneTask(
        objective=Label(corpus, held.train, labels, config),
        train=held.train,
        validation=questions(held.validation),
        test=questions(held.test),
        whole_items=True,
        counts={**held.sizes, "labels": len(values)},
        metric="r@1",
        pairs_or_labels=(labels,),
    )


_Pairs = tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]
"""The earlier item, the later item and the user of each pair."""


def co_engaged(
    corpus: Corpus, histories: Histories, positive: Bool[np.ndarray, " n"], config: FinetuneConfig
) -> FinetuneTask:
    """Train on pairs before a cutoff whose items are not held out.

    Each question is the next item, given the item before it: of pairs before the cutoff whose later item is held out
    for validation; and for the verdict of pairs after the cutoff, and of pairs with held-out items.
    """
    cutoff = np.quantile(histories.times, config.coengage.before) if len(histories.times) else 0
    held = hold_out(corpus, np.flatnonzero(corpus.placed), config.held_out, config.seed)
    early = histories.times < cutoff
    left, right, users = _pairs(corpus, histories, positive & early, config)
    trained = np.isin(left, held.train) & np.isin(right, held.train)
    pairs = (left[trained], right[trained])
    validation = np.isin(left, held.train) & np.isin(right, held.validation)
    new = ~np.isin(left, held.test) & np.isin(right, held.test)

    def questions(kinds: Mapping[str, _Pairs], held_out: str) -> HeldOutQuestions:
        asked = {
            name: [(one, [after], user) for one, after, user in zip(*(side.tolist() for side in some), strict=True)]
            for name, some in kinds.items()
        }
        return item_questions(corpus, asked, {held_out: held.not_trained})

    later = _pairs(corpus, histories, positive & ~early, config)
    name = "the next item, one held out"
    test = {name: (left[new], right[new], users[new]), "the next item, later": later}
    return FinetuneTask(
        objective=CoEngage(corpus, pairs, config),
        train=held.train,
        validation=questions(
            {"the next item": (left[validation], right[validation], users[validation])}, "the next item"
        ),
        test=questions(test, name),
        whole_items=True,
        counts={**held.sizes, "pairs": int(trained.sum()), "users": len(histories)},
        pairs_or_labels=pairs,
        targets=lambda: _targets(corpus, histories, positive & early, held, config),
    )


def _targets(
    corpus: Corpus, histories: Histories, chosen: Bool[np.ndarray, " n"], held: HeldOut, config: FinetuneConfig
) -> Float64[np.ndarray, "items _"]:
    """PPMI embeddings of the training items."""
    items = corpus.find(histories.items)
    events = np.flatnonzero(chosen & np.isin(items, held.train))
    owners, times = histories.owners[events].astype(np.int64), histories.times[events]
    mass = co_occurrence(owners, items[events], times, len(corpus), config.coengage.hours)
    return ppmi_vectors(mass, config.coengage.factors)


def _pairs(corpus: Corpus, histories: Histories, positive: Bool[np.ndarray, " n"], config: FinetuneConfig) -> _Pairs:
    """Pairs as places of items that have a content."""
    left, right, users = pairs_of(histories, positive, config.coengage)
    before, after = corpus.find(left), corpus.find(right)
    usable = (before >= 0) & (after >= 0) & corpus.placed[before] & corpus.placed[after]
    return before[usable], after[usable], users[usable]
