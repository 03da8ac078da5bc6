"""The evaluation report: tables, charts and an HTML page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmrec.evaluation import charts
from mmrec.evaluation.bootstrap import Comparison, Interval
from mmrec.evaluation.evaluation import Evaluation
from mmrec.evaluation.measured import Measured

__all__ = ["EvaluationPage", "figure", "render", "signed", "verdict"]


_NONE: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"


def verdict(comparison: Comparison) -> str:
    """What a comparison allows to be said: ``above``, ``not below``, ``below``, or that too few people asked."""
    if math.isnan(comparison.difference.low):
        return "too few people"
    return "above" if comparison.above else "not below" if comparison.not_below else "below"


def figure(value: float, digits: int = 4) -> str:
    """A number as tables show it: no zero before the point, a dash where there is none."""
    if math.isnan(value):
        return _NONE
    if abs(value) >= 10:
        return f"{value:,.1f}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float) -> str:
    """A difference as tables show it, with its sign."""
    if math.isnan(value):
        return _NONE
    text = figure(abs(value))
    return text if not float(text.replace(",", "")) else f"{'+' if value > 0 else _MINUS}{text}"


_LISTS = {
    "coverage": ("Coverage", "share of the catalog in any list"),
    "diversity": ("Diversity", "mean of 1 - cosine over the pairs of a list"),
    "novelty": ("Novelty", "bits of self-information"),
    "serendipity": ("Serendipity", "lists with the target where the popular list lacks it"),
    "popularity": ("Popularity", "mean training events of what is shown"),
    "gini": ("Gini", "how unevenly items are shown"),
    "calibration_js": ("Miscalibration", "Jensen-Shannon bits from the categories of the past"),
    "calibration_kl": ("… as KL", "Kullback-Leibler bits"),
}


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """What the page tells.

    Attributes:
        title: Its heading.
        evaluation: What was measured.
        facts: How the events were split, and of what, by name.
        losses: Loss of each epoch by the name of the curve, where models were trained.
        dials: Diversity and accuracy as a dial is turned, by its name; drawn where diversity was measured.
        notes: Sentences that a reader has to know.

    """

    title: str
    evaluation: Evaluation
    facts: Mapping[str, str]
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    dials: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Chart:
    title: str
    caption: str
    svg: Markup


def render(report: EvaluationPage) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "signed": signed}
    found = report.evaluation
    colours = {model.name: number for number, model in enumerate(found.models)}
    shown = [name for name in _LISTS if all(name in model.lists for model in found.models)]
    return environment.get_template("report.html.jinja").render(
        report=report,
        found=found,
        colours=colours,
        series=charts.SERIES,
        charts=_charts(report, colours),
        lists={name: _LISTS[name] for name in shown},
        compared=list(zip(found.comparisons, found.adjusted, strict=True)),
        verdict=verdict,
        best={metric: max(model.metrics[metric].mean for model in found.models) for metric in found.protocol.metrics},
    )


def _charts(report: EvaluationPage, colours: Mapping[str, int]) -> list[_Chart]:
    found, chosen = report.evaluation, report.evaluation.protocol.chosen
    name = chosen.upper()
    means = {model.name: model.metrics[chosen] for model in found.models}
    ordered = dict(sorted(means.items(), key=lambda pair: -pair[1].mean))
    told = "Dots are means over all events asked, bars 95% intervals over people."
    drawn = [_chart(f"{name} of each model", told, charts.dots(ordered, colours, name))]
    if found.comparisons:
        differences = {one.one: one.difference for one in found.comparisons}
        told = "Paired over people. A bar wholly right of the line is above; one that reaches it is not below."
        svg = charts.dots(differences, colours, f"{name}, difference", zero=True)
        drawn.append(_chart(f"Difference from {found.protocol.reference}", told, svg))
    if found.cold is not None:
        curves = {model: {str(at): one for at, one in curve.items()} for model, curve in found.cold.values.items()}
        svg = charts.lines(curves, colours, "events known of the person", name)
        drawn.append(_chart("New people", found.cold.how, svg))
    drawn += _by_slices(found.models, colours, name)
    if all("diversity" in model.lists for model in found.models):
        points = {model.name: (model.lists["diversity"], model.metrics[chosen].mean) for model in found.models}
        svg = charts.scatter(points, colours, "intra-list diversity", name, report.dials)
        drawn.append(_chart("Accuracy against diversity", "Up is more often right, right is more varied.", svg))
    shares = {model.name: _exactly(model.lists["coverage"]) for model in found.models}
    svg = charts.dots(shares, colours, "coverage")
    drawn.append(_chart("Coverage", "Share of the catalog that is in any list.", svg))
    if report.losses:
        svg = charts.trend(report.losses, "epoch", "loss")
        drawn.append(_chart("Losses", "Mean loss of each epoch.", svg))
    return drawn


def _by_slices(models: Sequence[Measured], colours: Mapping[str, int], name: str) -> list[_Chart]:
    past = {model.name: model.by_past for model in models}
    item = {model.name: model.by_item for model in models}
    return [
        _chart("By what is known of the person", "Questions by the number of events before them.",
               charts.lines(past, colours, "events in the history", name)),
        _chart("By how well the target is known", "Questions by the training events of the item that came next.",
               charts.lines(item, colours, "training events of the target", name)),
    ]  # fmt: skip


def _chart(title: str, caption: str, svg: str) -> _Chart:
    return _Chart(title, caption, Markup(svg))  # noqa: S704 - drawn here; matplotlib escapes the names in it


def _exactly(value: float) -> Interval:
    return Interval(value, value, value, 0, 0)
