"""Print an evaluation as a table or JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from rich.table import Table

from mmrec.evaluation.bootstrap import Interval
from mmrec.evaluation.evaluating import ColdStartCurve, Evaluation
from mmrec.evaluation.report import figure, signed, verdict
from pipelines import console

_SHOWN: Final = {
    "coverage": "coverage",
    "diversity": "diversity",
    "novelty": "novelty",
    "gini": "gini",
    "calibration_js": "miscalibration",
}


def print_evaluation(found: Evaluation, facts: Mapping[str, str], *, as_json: bool) -> None:
    """Print what was measured: the models, the numbers of users and events, and new users and items where requested."""
    if as_json:
        console.emit_json(document(found, facts))
        return
    for part in (_accuracy(found), _against(found), _lists(found)):
        console.data.print(part)
        console.data.print()
    if found.models[0].cold_items:
        console.data.print(_cold_items(found))
        console.data.print()
    if found.cold is not None:
        console.data.print(_cold_users(found, found.cold))
    console.note(_counted(found, facts))


def document(found: Evaluation, facts: Mapping[str, str]) -> dict[str, object]:
    """Lay out an evaluation for JSON."""
    compared = {
        one.one: {**asdict(one.difference), "p": one.p, "p_holm": p, "verdict": verdict(one)}
        for one, p in zip(found.comparisons, found.adjusted, strict=True)
    }
    whole = {
        name: getattr(found, name)
        for name in ("users", "all_users", "cases", "repeated", "not_candidates", "items", "training_events")
    }
    return {
        **whole,
        "facts": dict(facts),
        "metric": found.protocol.chosen,
        "reference": found.protocol.reference,
        "models": {model.name: asdict(model) for model in found.models},
        "against_reference": compared,
        "new_users": None if found.cold is None else _cold_document(found.cold),
    }


def _cold_document(cold: ColdStartCurve) -> dict[str, object]:
    against = {
        name: {known: {**asdict(one.difference), "verdict": verdict(one)} for known, one in curve.items()}
        for name, curve in cold.against.items()
    }
    values = {name: {known: asdict(one) for known, one in curve.items()} for name, curve in cold.values.items()}
    return {"how": cold.how, "values": values, "against_reference": against}


def _accuracy(found: Evaluation) -> Table:
    chosen = found.protocol.chosen
    beside = [name for name in ("hr@10", "mrr@10") if name in found.protocol.metrics and name != chosen]
    headers = ["model", chosen.upper(), "95%", *(name.upper() for name in beside), "mean rank"]
    rows = [
        [
            model.name,
            figure(model.metrics[chosen].mean),
            _interval(model.metrics[chosen]),
            *(figure(model.metrics[name].mean) for name in beside),
            f"{model.rank:,.0f}",
        ]
        for model in found.models
    ]
    return console.table(headers, rows, numbers=headers[1:])


def _against(found: Evaluation) -> Table:
    headers = [f"minus {found.protocol.reference}", found.protocol.chosen.upper(), "95%", "p, Holm", "conclusion"]
    rows = [
        [
            one.one,
            signed(one.difference.mean),
            f"{signed(one.difference.low)} to {signed(one.difference.high)}",
            figure(p, 3),
            verdict(one),
        ]
        for one, p in zip(found.comparisons, found.adjusted, strict=True)
    ]
    return console.table(headers, rows, numbers=headers[1:4])


def _lists(found: Evaluation) -> Table:
    shown = [name for name in _SHOWN if all(name in model.lists for model in found.models)]
    headers = ["lists", *(_SHOWN[name] for name in shown), "ms p50", "p99"]
    rows = [
        [
            model.name,
            *(figure(model.lists[name], 3) for name in shown),
            figure(model.latency.p50, 2),
            figure(model.latency.p99, 2),
        ]
        for model in found.models
    ]
    return console.table(headers, rows, numbers=headers[1:])


def _cold_items(found: Evaluation) -> Table:
    headers = ["items", "model", found.protocol.chosen.upper(), "95%", "events"]
    rows = [
        [kind, model.name, figure(one.mean), _interval(one), f"{one.cases:,}"]
        for kind in found.models[0].cold_items
        for model in found.models
        for one in [model.cold_items[kind]]
    ]
    return console.table(headers, rows, numbers=headers[2:])


def _cold_users(found: Evaluation, cold: ColdStartCurve) -> Table:
    known = list(cold.values[found.protocol.reference])
    names = [f"after {count}" for count in known]
    rows = []
    for name, curve in cold.values.items():
        words = [verdict(cold.against[name][count]) if name in cold.against else "" for count in known]
        rows.append([name, *(f"{figure(curve[c].mean)} {word}" for c, word in zip(known, words, strict=True))])
    users = cold.values[found.protocol.reference][known[0]].users
    return console.table([f"{found.protocol.chosen.upper()}, {users} new users", *names], rows)


def _interval(one: Interval) -> str:
    return f"{figure(one.low)} to {figure(one.high)}"


def _counted(found: Evaluation, facts: Mapping[str, str]) -> str:
    split = ", ".join(f"{name} {value}" for name, value in facts.items())
    left = f"; {found.repeated:,} targets were seen before and are excluded" if found.repeated else ""
    gone = f"; {found.not_candidates:,} targets are no longer in the catalog" if found.not_candidates else ""
    drawn = f" of {found.all_users:,}" if found.users < found.all_users else ""
    return (
        f"{found.users:,}{drawn} users, {found.cases:,} events predicted among {found.items:,} items, "
        f"{found.training_events:,} events to learn from ({split}){left}{gone}."
    )
