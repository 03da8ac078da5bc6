"""What an evaluation is: how models are compared, and all that was measured of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mmrec.errors import UsageError
from mmrec.evaluation.bootstrap import Comparison, Interval
from mmrec.evaluation.measured import Measured
from mmrec.events.kinds import Kinds

__all__ = ["ColdCurve", "Evaluation", "Protocol"]

_METRICS: Final = tuple(f"{name}@{k}" for k in (5, 10, 20) for name in ("hr", "ndcg", "mrr"))


@dataclass(frozen=True, slots=True)
class Protocol:
    """How models are evaluated.

    Attributes:
        metrics: As ``ndcg@10``.
        at_once: Metrics of lists of which all later events of a person are the targets.
        chosen: The one of them that models are compared by.
        reference: Name of the model that the others are compared with.
        known: Numbers of events that are known of new people.
        allow_seen: Whether what a person had met can be recommended, and be a target.
        most_people: How many people are asked at most, drawn by the seed; all if None.
        seed: Of the people drawn.
        draws: How often people are drawn for an interval.
        kinds: Which events speak for an item.

    """

    metrics: tuple[str, ...] = _METRICS
    at_once: tuple[str, ...] = ("hr@10", "recall@10", "ndcg@10", "map@10")
    chosen: str = "ndcg@10"
    reference: str = "recent popularity"
    known: tuple[int, ...] = (0, 1, 3, 5, 10)
    allow_seen: bool = False
    most_people: int | None = None
    seed: int = 0
    draws: int = 2000
    kinds: Kinds = field(default_factory=Kinds)

    def __post_init__(self) -> None:
        """Raise UsageError where models would be compared by what is not measured, or nobody would be asked."""
        if self.most_people is not None and self.most_people < 1:
            raise UsageError(f"{self.most_people} people cannot be asked: it must be 1 or more.")
        if self.chosen not in self.metrics:
            raise UsageError(f"{self.chosen!r} is not measured: choose one of {', '.join(self.metrics)}.")


@dataclass(frozen=True, slots=True)
class ColdCurve:
    """How well new people are served after so many events.

    Attributes:
        how: Who they are and what is asked, as a sentence.
        values: The chosen metric by model, then by the number of events known.
        against: Each model against the reference, by the number of events known.

    """

    how: str
    values: Mapping[str, Mapping[int, Interval]]
    against: Mapping[str, Mapping[int, Comparison]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured.

    Attributes:
        protocol: How.
        people: Number of people who asked.
        all_people: Number of people who could have asked; more where only some were drawn.
        questions: Number of events that were predicted.
        repeated: Number of targets left out because the person had met them before.
        not_candidates: Number of targets left out because they are no candidates.
        items: Number of candidates.
        training_events: Number of events that speak for a candidate and came before the targets.
        models: A row for each model.
        comparisons: Each model against the reference, by the chosen metric.
        adjusted: The p of each comparison after Holm's correction.
        cold: New people; None where there are none.

    """

    protocol: Protocol
    people: int
    all_people: int
    questions: int
    repeated: int
    not_candidates: int
    items: int
    training_events: int
    models: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    adjusted: tuple[float, ...]
    cold: ColdCurve | None
