"""Co-engagement as a task: what of behaviour is learned from, and what is asked of the rest."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mmrec.behaviour.histories import Histories
from mmrec.finetuning.coengage import CoEngage, pairs_of
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.engagement import engagement, engagement_vectors
from mmrec.finetuning.held_out import hold_out
from mmrec.finetuning.questions import Questions, of_items
from mmrec.finetuning.task import Task

__all__ = ["co_engaged"]

_HELD_OUT = "the next item, one held out"


def co_engaged(corpus: Corpus, histories: Histories, speaking: Bool[np.ndarray, " n"], config: FinetuneConfig) -> Task:
    """Learn from what came before a cutoff of items that are not held out.

    Asked is, from the item before, for the next item: of those pairs before the cutoff whose later item is held out for
    validation; and for the verdict of those after the cutoff, and of held-out items.
    """
    cutoff = np.quantile(histories.times, config.coengage.before) if len(histories.times) else 0
    held = hold_out(corpus, np.flatnonzero(corpus.placed), config.held_out, config.seed)
    early = histories.times < cutoff
    left, right, people = _places(corpus, histories, speaking & early, config)
    learned = np.isin(left, held.train) & np.isin(right, held.train)
    pairs = (left[learned], right[learned])
    objective = CoEngage(corpus, pairs, config)
    validation = np.isin(left, held.train) & np.isin(right, held.validation)
    new = ~np.isin(left, held.test) & np.isin(right, held.test)
    kinds = {_HELD_OUT: (left[new], right[new], people[new])}
    later = _places(corpus, histories, speaking & ~early, config)
    if len(later[0]):
        kinds["the next item, later"] = later
    checked = {"the next item": (left[validation], right[validation], people[validation])}
    counts = {**held.sizes, "pairs": int(learned.sum()), "people": len(histories)}

    def targets() -> Float64[np.ndarray, "items _"]:
        return _targets(corpus, histories, speaking & early, held.train, config)

    asked = _pair_questions(corpus, kinds, {_HELD_OUT: held.untaught})
    checks = _pair_questions(corpus, checked, {"the next item": held.untaught})
    return Task(objective, held.train, checks, asked, True, counts, learned=pairs, targets=targets)


def _targets(
    corpus: Corpus,
    histories: Histories,
    learned: Bool[np.ndarray, " n"],
    train: Int64[np.ndarray, " _"],
    config: FinetuneConfig,
) -> Float64[np.ndarray, "items _"]:
    """Where the items that are learned from lie by who takes them."""
    items, there = corpus.find(histories.items)
    events = np.flatnonzero(learned & there & np.isin(items, train))
    owners, times = histories.owners[events].astype(np.int64), histories.times[events]
    mass = engagement(owners, items[events], times, len(corpus), config.coengage.hours)
    return engagement_vectors(mass, config.coengage.factors)


def _pair_questions(
    corpus: Corpus, kinds: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], among: Mapping[str, np.ndarray]
) -> Questions:
    asked = {
        name: [(one, [after]) for one, after in zip(left.tolist(), right.tolist(), strict=True)]
        for name, (left, right, _) in kinds.items()
        if len(left)
    }
    return of_items(corpus, asked, {name: people.tolist() for name, (_, _, people) in kinds.items()}, among)


def _places(
    corpus: Corpus, histories: Histories, speaking: Bool[np.ndarray, " n"], config: FinetuneConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs as places of items that have a content."""
    left, right, people = pairs_of(histories, speaking, config.coengage)
    (before, one), (after, other) = corpus.find(left), corpus.find(right)
    there = one & other & corpus.placed[before] & corpus.placed[after]
    return before[there], after[there], people[there]
