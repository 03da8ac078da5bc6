"""What is learned from, and what is asked while training to know when to stop."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from mmrec.behaviour.histories import Histories
from mmrec.behaviour.splits import Split
from mmrec.errors import UsageError

__all__ = ["Task", "task_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Histories to learn from, and events to predict.

    Attributes:
        train: What is learned from.
        live: Histories with the events to predict in them.
        validation: Places of these in `live`, ascending; what a person did before may be looked at.

    """

    train: Histories
    live: Histories
    validation: Int64[np.ndarray, " n"]


def task_of(data: Split | Histories, weights: Mapping[str, float], most: int, seed: int) -> Task:
    """Make a task of a split with validation events, or hold out each person's last event that speaks for its item.

    At most `most` people are asked about, drawn by the seed. Of a split, only what may be learned from is held out: the
    time split has no validation events of its own. Raises UsageError where there is nothing to learn from.
    """
    if isinstance(data, Split) and len(data.validation):
        task = Task(data.train, data.live, data.validation)
    else:
        histories = data.train if isinstance(data, Split) else data
        task = _held_out(histories, weights)
    if not len(task.train.items) or (task.train.lengths < 2).all():
        raise UsageError("There is nothing to learn from: nobody has two events. Import more of them.")
    if len(task.validation) > most:
        drawn = np.random.default_rng([seed, most]).choice(task.validation, most, replace=False)
        task = Task(task.train, task.live, np.sort(drawn))
    return task


def _held_out(histories: Histories, weights: Mapping[str, float]) -> Task:
    places = np.flatnonzero(histories.weights(weights, 1.0) > 0)
    owners = histories.owners[places]
    newest = np.append(owners[1:] != owners[:-1], np.ones(min(1, len(owners)), dtype=bool))
    newest &= places - histories.offsets[owners] >= 2
    held = places[newest]
    first_held = histories.offsets[1:].copy()
    first_held[histories.owners[held]] = held
    before = np.arange(len(histories.items)) < first_held[histories.owners]
    return Task(histories.keep(before), histories, held)
