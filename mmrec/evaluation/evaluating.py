"""Evaluate models on held-out events: metrics with confidence intervals, compared model by model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import Popularity
from mmrec.evaluation.bootstrap import Comparison, Interval, compare, holm, interval
from mmrec.evaluation.measured import Measured, Measurement, latency, measure, values_of
from mmrec.evaluation.metrics import at_once
from mmrec.evaluation.questions import Candidates, Questions, counts, past_matrix
from mmrec.evaluation.ranking import Ranked, rank
from mmrec.evaluation.scorer import Learner, Scorer
from mmrec.events.kinds import Kinds
from mmrec.events.splits import Split

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


def fit(learners: Iterable[Learner], split: Split, candidates: Candidates) -> dict[str, list[Scorer]]:
    """Fit learners to all that came before the targets; one run each."""
    train = split.train_and_validation()
    return {learner.name: [learner.fit(train, candidates)] for learner in learners}


def evaluate(
    split: Split,
    candidates: Candidates,
    models: Mapping[str, Sequence[Scorer]],
    protocol: Protocol | None = None,
    advance: Callable[[str], object] = str,
) -> Evaluation:
    """Evaluate models on the targets of a split.

    Args:
        split: What was trained on, and what is asked.
        candidates: All that can be recommended.
        models: Fitted models by name, one scorer for each seed.
        protocol: How.
        advance: Called with the name of each model as it is done.

    Raises:
        UsageError: There is no question to ask, or no model of the reference's name.

    """
    protocol = Protocol() if protocol is None else protocol
    if protocol.reference not in models:
        raise UsageError(f"There is no model {protocol.reference!r} to compare with; there are {', '.join(models)}.")
    every = Questions.of(split, protocol.kinds)
    able = every.answerable(candidates, allow_seen=protocol.allow_seen)
    if not len(able):
        raise UsageError(
            f"Of {len(every)} events to predict none can be: each is of an item that its person had met, or that is "
            "gone. Import more events, choose an earlier cutoff, or allow what was seen."
        )
    questions = able if protocol.most_people is None else able.of_people(protocol.most_people, protocol.seed)
    asked = _asked(split, questions, candidates, protocol)
    answers, rows = {}, []
    for name, runs in models.items():
        answers[name] = _answers(name, runs, questions, candidates, protocol)
        took = latency(runs[0], questions)
        row = measure(answers[name], asked, protocol.metrics, protocol.chosen, took, draws=protocol.draws)
        cold_items = _cold_items(runs, answers[name], split, asked, protocol)
        rows.append(replace(row, at_once=_at_once(name, runs, asked, protocol), cold_items=cold_items))
        advance(name)
    compared = _compared(answers, questions, protocol)
    return Evaluation(
        protocol=protocol,
        people=len(np.unique(questions.people)),
        all_people=len(np.unique(able.people)),
        questions=len(questions),
        repeated=0 if protocol.allow_seen else int(every.repeats.sum()),
        not_candidates=int((candidates.places(every.live.items[every.targets]) < 0).sum()),
        items=len(candidates),
        training_events=int(asked.counts.sum()),
        models=tuple(rows),
        comparisons=tuple(compared),
        adjusted=tuple(holm([one.p for one in compared])),
        cold=_cold_people(split, every.take(np.isin(every.people, questions.people)), candidates, models, protocol),
    )


def _asked(split: Split, questions: Questions, candidates: Candidates, protocol: Protocol) -> Measurement:
    train = split.train_and_validation()
    popular = Popularity(protocol.kinds).fit(train, candidates)
    return Measurement(
        questions,
        candidates,
        counts(train, candidates, protocol.kinds),
        rank(popular, questions, candidates, allow_seen=protocol.allow_seen).lists,
        past_matrix(questions.pasts(range(len(questions))), candidates),
    )


def _answers(
    name: str, runs: Sequence[Scorer], questions: Questions, candidates: Candidates, protocol: Protocol
) -> list[Ranked]:
    """What each run answers, under the name that the model has in the tables."""
    return [replace(rank(run, questions, candidates, allow_seen=protocol.allow_seen), name=name) for run in runs]


def _at_once(name: str, runs: Sequence[Scorer], asked: Measurement, protocol: Protocol) -> dict[str, Interval]:
    questions = asked.questions.at_once()
    ranked = _answers(name, runs, questions, asked.candidates, protocol)
    people = np.unique(questions.people)
    return {
        metric: interval(
            np.stack([at_once(*_parted(metric), one.above, one.tied, questions.people) for one in ranked]),
            people,
            draws=protocol.draws,
        )
        for metric in protocol.at_once
    }


def _parted(metric: str) -> tuple[str, int]:
    name, _, k = metric.partition("@")
    return name, int(k)


def _compared(answers: Mapping[str, Sequence[Ranked]], questions: Questions, protocol: Protocol) -> list[Comparison]:
    """Each model but the reference against it."""
    base = values_of(protocol.chosen, answers[protocol.reference])
    return [
        compare((name, protocol.reference), values_of(protocol.chosen, runs), base, questions.people,
                draws=protocol.draws)
        for name, runs in answers.items()
        if name != protocol.reference
    ]  # fmt: skip


def _cold_items(
    runs: Sequence[Scorer], answers: Sequence[Ranked], split: Split, asked: Measurement, protocol: Protocol
) -> dict[str, Interval]:
    """The chosen metric on items held out of training: in the full catalog, among themselves; and on the others."""
    if split.cold_rows is None:
        return {}
    questions, people = asked.questions, asked.questions.people
    cold = np.isin(asked.candidates.rows, split.cold_rows)
    on_cold = cold[asked.targets]
    values = values_of(protocol.chosen, answers)
    few = [
        rank(run, questions.take(on_cold), asked.candidates, allow_seen=protocol.allow_seen, among=cold) for run in runs
    ]
    return {
        "warm": interval(values[:, ~on_cold], people[~on_cold], draws=protocol.draws),
        "cold in the full catalog": interval(values[:, on_cold], people[on_cold], draws=protocol.draws),
        "cold among cold": interval(values_of(protocol.chosen, few), people[on_cold], draws=protocol.draws),
    }


def _cold_people(
    split: Split,
    every: Questions,
    candidates: Candidates,
    models: Mapping[str, Sequence[Scorer]],
    protocol: Protocol,
) -> ColdCurve | None:
    """New people after so many events: those who came after the cutoff, or those who were held out."""
    if split.cold_users is not None:
        how = "People held out of training, of whom only the newest events are known."
        asked = {known: every.newest(known) for known in protocol.known}
    else:
        how = "People who came after the cutoff; one list after so many events, the next ten events are its targets."
        asked = {known: every.opening(known) for known in protocol.known}
    able = {known: part.answerable(candidates, allow_seen=protocol.allow_seen) for known, part in asked.items()}
    parts = {known: part for known, part in able.items() if len(part)}
    if not parts:
        return None
    values: dict[str, dict[int, Interval]] = {name: {} for name in models}
    against: dict[str, dict[int, Comparison]] = {name: {} for name in models if name != protocol.reference}
    for known, part in parts.items():
        answers = {name: _answers(name, runs, part, candidates, protocol) for name, runs in models.items()}
        for name, ranked in answers.items():
            values[name][known] = interval(values_of(protocol.chosen, ranked), part.people, draws=protocol.draws)
        for compared in _compared(answers, part, protocol):
            against[compared.one][known] = compared
    return ColdCurve(how, values, against)
