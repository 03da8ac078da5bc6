"""Evaluate models on held-out events: metrics with confidence intervals, compared model by model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import Popularity
from mmrec.evaluation.bootstrap import Comparison, Interval, compare, holm, interval
from mmrec.evaluation.cases import Candidates, EvaluationCases, history_matrix, positive_counts
from mmrec.evaluation.metrics import per_user_metric
from mmrec.evaluation.model_metrics import MetricInputs, ModelMetrics, latency, measure_model, values_of
from mmrec.evaluation.ranking import RankedTargets, rank_targets
from mmrec.evaluation.scorer import Learner, Scorer
from mmrec.events.kinds import Kinds
from mmrec.events.splits import Split

_METRICS: Final = tuple(f"{name}@{k}" for k in (5, 10, 20) for name in ("hr", "ndcg", "mrr"))


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Metrics, reference and limits of an evaluation.

    Attributes:
        metrics: As ``ndcg@10``.
        list_metrics: Metrics of one list a user, whose targets are all their later events.
        chosen: The one of `metrics` that models are compared by.
        reference: Name of the model that the others are compared with.
        known: Numbers of events that are known of new users.
        allow_seen: Whether items of a user's earlier events can be recommended, and be targets.
        most_users: Most users, drawn by the seed; all if None.
        seed: Of the users drawn.
        draws: Bootstrap resamples for an interval.
        kinds: Which events are positive.

    """

    metrics: tuple[str, ...] = _METRICS
    list_metrics: tuple[str, ...] = ("hr@10", "recall@10", "ndcg@10", "map@10")
    chosen: str = "ndcg@10"
    reference: str = "recent popularity"
    known: tuple[int, ...] = (0, 1, 3, 5, 10)
    allow_seen: bool = False
    most_users: int | None = None
    seed: int = 0
    draws: int = 2000
    kinds: Kinds = field(default_factory=Kinds)

    def __post_init__(self) -> None:
        """Raise UsageError where models would be compared by what is not measured, or without users."""
        if self.most_users is not None and self.most_users < 1:
            raise UsageError(f"{self.most_users} users cannot be evaluated: it must be 1 or more.")
        if self.chosen not in self.metrics:
            raise UsageError(f"{self.chosen!r} is not measured: choose one of {', '.join(self.metrics)}.")


@dataclass(frozen=True, slots=True)
class ColdStartCurve:
    """The chosen metric of new users by model, then by the number of events known; and each against the reference.

    `how` is a sentence on which users and targets.
    """

    how: str
    values: Mapping[str, Mapping[int, Interval]]
    against: Mapping[str, Mapping[int, Comparison]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of an evaluation.

    `all_users` are those with cases without the limit of the protocol; `repeated` and `not_candidates` targets were
    excluded, since the user has seen them before, or they are no candidates. `training_events` are positive ones with
    candidates. Each model is compared with the reference by the chosen metric, `adjusted` has the p of each comparison
    after Holm's correction, and `cold` are new users, None where there are none.
    """

    protocol: EvaluationProtocol
    users: int
    all_users: int
    cases: int
    repeated: int
    not_candidates: int
    items: int
    training_events: int
    models: tuple[ModelMetrics, ...]
    comparisons: tuple[Comparison, ...]
    adjusted: tuple[float, ...]
    cold: ColdStartCurve | None


def fit(learners: Iterable[Learner], split: Split, candidates: Candidates) -> dict[str, list[Scorer]]:
    """Fit learners to all that came before the targets; one run each."""
    train = split.train_and_validation()
    return {learner.name: [learner.fit(train, candidates)] for learner in learners}


def evaluate(
    split: Split,
    candidates: Candidates,
    models: Mapping[str, Sequence[Scorer]],
    protocol: EvaluationProtocol | None = None,
    advance: Callable[[str], object] = lambda _: None,
) -> Evaluation:
    """Evaluate fitted models, by name one scorer for each seed, on the targets of a split.

    `advance` is called with the name of each model as it is done. Raises UsageError where there is no answerable case,
    or no model of the reference's name.
    """
    protocol = EvaluationProtocol() if protocol is None else protocol
    if protocol.reference not in models:
        raise UsageError(f"There is no model {protocol.reference!r} to compare with; there are {', '.join(models)}.")
    every = EvaluationCases.of(split, protocol.kinds)
    able = every.answerable(candidates, allow_seen=protocol.allow_seen)
    if not len(able):
        raise UsageError(
            f"Of {len(every)} events to predict none can be: each is of an item that its user has seen before, or that "
            "is gone. Import more events, choose an earlier cutoff, or allow what was seen."
        )
    cases = able if protocol.most_users is None else able.sample_users(protocol.most_users, protocol.seed)
    evaluator = _Evaluator(split, candidates, models, protocol)
    inputs = evaluator.inputs(cases)
    ranked, rows = {}, []
    for name, runs in models.items():
        ranked[name] = evaluator.rank(name, cases)
        row = measure_model(ranked[name], inputs, protocol.metrics, protocol.chosen, draws=protocol.draws)
        rows.append(
            replace(
                row,
                latency=latency(runs[0], cases),
                list_metrics=evaluator.list_metrics(name, cases),
                cold_items=evaluator.cold_items(name, ranked[name], inputs),
            )
        )
        advance(name)
    compared = evaluator.compare(ranked, cases)
    return Evaluation(
        protocol=protocol,
        users=len(np.unique(cases.users)),
        all_users=len(np.unique(able.users)),
        cases=len(cases),
        repeated=0 if protocol.allow_seen else int(every.repeats.sum()),
        not_candidates=int((candidates.places(every.live.items[every.targets]) < 0).sum()),
        items=len(candidates),
        training_events=int(inputs.counts.sum()),
        models=tuple(rows),
        comparisons=tuple(compared),
        adjusted=tuple(holm([one.p for one in compared])),
        cold=evaluator.cold_users(every.take(np.isin(every.users, cases.users))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluator:
    split: Split
    candidates: Candidates
    models: Mapping[str, Sequence[Scorer]]
    protocol: EvaluationProtocol

    def inputs(self, cases: EvaluationCases) -> MetricInputs:
        train = self.split.train_and_validation()
        popular = Popularity(self.protocol.kinds).fit(train, self.candidates)
        return MetricInputs(
            cases,
            self.candidates,
            positive_counts(train, self.candidates, self.protocol.kinds),
            rank_targets(popular, cases, self.candidates, allow_seen=self.protocol.allow_seen).lists,
            history_matrix(cases.histories(range(len(cases))), self.candidates),
        )

    def rank(
        self, name: str, cases: EvaluationCases, among: Bool[np.ndarray, " items"] | None = None
    ) -> list[RankedTargets]:
        """Rank the targets by each run of a model."""
        allow_seen = self.protocol.allow_seen
        return [
            replace(rank_targets(run, cases, self.candidates, allow_seen=allow_seen, among=among), name=name)
            for run in self.models[name]
        ]

    def interval(self, values: Float64[np.ndarray, "seeds q"], users: Int64[np.ndarray, " q"]) -> Interval:
        return interval(values, users, draws=self.protocol.draws)

    def list_metrics(self, name: str, cases: EvaluationCases) -> dict[str, Interval]:
        cases = cases.one_per_user()
        ranked, users = self.rank(name, cases), np.unique(cases.users)
        found = {}
        for metric in self.protocol.list_metrics:
            kind, _, k = metric.partition("@")
            values = [per_user_metric(kind, int(k), one.above, one.tied, cases.users) for one in ranked]
            found[metric] = self.interval(np.stack(values), users)
        return found

    def compare(self, ranked: Mapping[str, Sequence[RankedTargets]], cases: EvaluationCases) -> list[Comparison]:
        """Compare each model with the reference."""
        chosen, reference = self.protocol.chosen, self.protocol.reference
        base, draws = values_of(chosen, ranked[reference]), self.protocol.draws
        return [
            compare((name, reference), values_of(chosen, runs), base, cases.users, draws=draws)
            for name, runs in ranked.items()
            if name != reference
        ]

    def cold_items(self, name: str, ranked: Sequence[RankedTargets], inputs: MetricInputs) -> dict[str, Interval]:
        """The chosen metric on items held out of training: in the full catalog, among themselves; and on the others."""
        if self.split.cold_rows is None:
            return {}
        cases, users = inputs.cases, inputs.cases.users
        cold = np.isin(self.candidates.rows, self.split.cold_rows)
        on_cold = cold[inputs.targets]
        values = values_of(self.protocol.chosen, ranked)
        among_cold = values_of(self.protocol.chosen, self.rank(name, cases.take(on_cold), cold))
        return {
            "warm": self.interval(values[:, ~on_cold], users[~on_cold]),
            "cold in the full catalog": self.interval(values[:, on_cold], users[on_cold]),
            "cold among cold": self.interval(among_cold, users[on_cold]),
        }

    def cold_users(self, every: EvaluationCases) -> ColdStartCurve | None:
        """New users after so many events: those who came after the cutoff, or those who were held out."""
        protocol, held_out = self.protocol, self.split.cold_users is not None
        how = "Users who came after the cutoff; one list after so many events, the next ten events are its targets."
        if held_out:
            how = "Users held out of training, of whom only the newest events are known."
        values: dict[str, dict[int, Interval]] = {name: {} for name in self.models}
        against: dict[str, dict[int, Comparison]] = {name: {} for name in self.models if name != protocol.reference}
        for known in protocol.known:
            cases = every.with_newest_events(known) if held_out else every.after_first_events(known)
            cases = cases.answerable(self.candidates, allow_seen=protocol.allow_seen)
            if len(cases):
                ranked = {name: self.rank(name, cases) for name in self.models}
                for name, runs in ranked.items():
                    values[name][known] = self.interval(values_of(protocol.chosen, runs), cases.users)
                for compared in self.compare(ranked, cases):
                    against[compared.one][known] = compared
        return ColdStartCurve(how, values, against) if values[protocol.reference] else None
