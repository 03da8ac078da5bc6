"""The evaluation report: tables, charts and an HTML page."""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmrec.evaluation.bootstrap import Comparison, Interval
from mmrec.evaluation.evaluating import Evaluation

SERIES: Final = 10
"""Number of colours; the page defines ``--s0`` and on."""

# Colours that stand for those of the page: matplotlib writes them, and they are replaced in what it wrote.
_INK, _SOFT, _HAIR = "#010101", "#020202", "#030303"
_STANDING: Final = {_INK: "var(--ink)", _SOFT: "var(--soft)", _HAIR: "var(--hair)"} | {
    f"#0404{number:02x}": f"var(--s{number})" for number in range(SERIES)
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of models are no formulas
    "axes.unicode_minus": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _HAIR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "axes.grid": True,
    "grid.color": _HAIR,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def dots(values: Mapping[str, Interval], colours: Mapping[str, int], label: str, *, zero: bool = False) -> str:
    """One line a model: its mean as a dot, its interval as a bar; with `zero` a line at no difference."""
    with _drawn(f"dots {label}", 6.4, 0.9 + 0.34 * len(values)) as (axes, found):
        for place, (name, one) in enumerate(reversed(list(values.items()))):
            colour, level = _series(colours[name]), [place, place]
            axes.plot([one.low, one.high], level, color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
            axes.plot([one.mean], [place], "o", color=colour, markersize=7)
        axes.set_yticks(range(len(values)), list(values)[::-1])
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_ylim(-0.7, len(values) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        if zero:
            axes.axvline(0, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
        else:
            axes.set_xlim(left=0)
    return found[0]


def lines(values: Mapping[str, Mapping[str, Interval]], colours: Mapping[str, int], across: str, label: str) -> str:
    """One curve a model over named places, its interval as a band."""
    places = list(dict.fromkeys(place for curve in values.values() for place in curve))
    with _drawn(f"lines {across}", 6.4, 3.6) as (axes, found):
        for name, curve in values.items():
            at = [places.index(place) for place in curve]
            colour, means = _series(colours[name]), [one.mean for one in curve.values()]
            axes.plot(at, means, "o-", color=colour, markersize=4, linewidth=2)
            low, high = [one.low for one in curve.values()], [one.high for one in curve.values()]
            axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xticks(range(len(places)), places)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(across)
        axes.set_ylabel(label)
        axes.grid(visible=False, axis="x")
    return found[0]


def scatter(
    points: Mapping[str, tuple[float, float]],
    colours: Mapping[str, int],
    across: str,
    label: str,
    curves: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> str:
    """One named dot a model, and accuracy-diversity curves."""
    with _drawn(f"scatter {across}", 6.4, 3.6) as (axes, found):
        for number, (name, points_of) in enumerate((curves or {}).items()):
            xs, ys = zip(*points_of, strict=True)
            axes.plot(xs, ys, "o-", color=_series(len(colours) + number), markersize=4, linewidth=2, label=name)
        for number, (name, (x, y)) in enumerate(sorted(points.items(), key=lambda pair: pair[1][1])):
            axes.plot([x], [y], "o", color=_series(colours[name]), markersize=9)
            # Names lie below and above by turns, as models of like accuracy are neighbours.
            offset = (8, 5) if number % 2 else (8, -13)
            axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", color=_INK, fontsize=9)
        axes.margins(x=0.22, y=0.14)
        axes.set_xlabel(across)
        axes.set_ylabel(label)
        if curves:
            axes.legend(fontsize=9)
    return found[0]


def trend(curves: Mapping[str, Sequence[float]], across: str, label: str) -> str:
    """Curves over steps, such as losses over epochs."""
    with _drawn(f"trend {label}", 6.4, 3.4) as (axes, found):
        for number, (name, values) in enumerate(curves.items()):
            axes.plot(range(1, len(values) + 1), values, color=_series(number), linewidth=2, label=name)
        axes.set_xlabel(across)
        axes.set_ylabel(label)
        axes.legend(fontsize=9)
    return found[0]


def _series(number: int) -> str:
    return f"#0404{number % SERIES:02x}"


@contextmanager
def _drawn(name: str, width: float, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on; the drawing is in the list afterwards. The name keeps ids of several drawings apart."""
    found: list[str] = []
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot(), found
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    found.append(_for_page(out.getvalue(), name))


def _for_page(svg: str, name: str) -> str:
    """The drawing without its prologue, with the page's colours, and ids that are its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 xmlns="http://www.w3.org/2000/svg" role="img">', svg, count=1
    )
    key = re.sub(r"\W+", "-", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(xlink:href=")#', rf"\1#{key}-", svg).replace("url(#", f"url(#{key}-")
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", svg)
    for colour, standing in _STANDING.items():
        svg = svg.replace(colour, standing)
    return svg


_NONE: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"


def verdict(comparison: Comparison) -> str:
    """Conclusion of a comparison: ``above``, ``not below``, ``below``, or ``too few users``."""
    if math.isnan(comparison.difference.low):
        return "too few users"
    return ("not below", "above", "below")[comparison.difference.sign]


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
    "popularity": ("Popularity", "mean training events of the items"),
    "gini": ("Gini", "how unevenly items are shown"),
    "calibration_js": ("Miscalibration", "Jensen-Shannon bits from the categories of the history"),
    "calibration_kl": ("… as KL", "Kullback-Leibler bits"),
}


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    """Contents of the page: what was measured, and facts such as the split, by name.

    By the name of the curve, `losses` has the loss of each epoch, where models were trained, and `curves` the
    accuracy-diversity curves, which are drawn where diversity was measured.
    """

    title: str
    evaluation: Evaluation
    facts: Mapping[str, str]
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def page_template(name: str, *folders: Path) -> Template:
    """Return a template of a page, with the filters `figure` and `signed`."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "signed": signed}
    return environment.get_template(name)


def render(report: EvaluationPage) -> str:
    """Return the page as HTML."""
    found = report.evaluation
    colours = {model.name: number for number, model in enumerate(found.models)}
    shown = [name for name in _LISTS if all(name in model.lists for model in found.models)]
    return page_template("report.html.jinja", Path(__file__).parent).render(
        report=report,
        found=found,
        colours=colours,
        series=SERIES,
        charts=_charts(report, colours),
        lists={name: _LISTS[name] for name in shown},
        compared=list(zip(found.comparisons, found.adjusted, strict=True)),
        verdict=verdict,
        best={metric: max(model.metrics[metric].mean for model in found.models) for metric in found.protocol.metrics},
    )


def _charts(report: EvaluationPage, colours: Mapping[str, int]) -> Iterator[tuple[str, str, Markup]]:
    """Yield the title, the caption and the drawing of each chart."""
    for title, caption, svg in _drawings(report, colours):
        yield title, caption, Markup(svg)  # noqa: S704 - drawn here; matplotlib escapes the names in it


def _drawings(report: EvaluationPage, colours: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    found, chosen = report.evaluation, report.evaluation.protocol.chosen
    name, models = chosen.upper(), found.models
    ordered = sorted(models, key=lambda model: -model.metrics[chosen].mean)
    caption = "Dots are means over all cases, bars 95% intervals over users."
    means = {model.name: model.metrics[chosen] for model in ordered}
    yield f"{name} of each model", caption, dots(means, colours, name)
    if found.comparisons:
        differences = {one.one: one.difference for one in found.comparisons}
        caption = "Paired over users. A bar wholly right of the line is above; one that reaches it is not below."
        svg = dots(differences, colours, f"{name}, difference", zero=True)
        yield f"Difference from {found.protocol.reference}", caption, svg
    if found.cold is not None:
        curves = {model: {str(at): one for at, one in curve.items()} for model, curve in found.cold.values.items()}
        yield "New users", found.cold.how, lines(curves, colours, "known events of the user", name)
    history, item = ({model.name: getattr(model, by) for model in models} for by in ("by_history", "by_item"))
    svg = lines(history, colours, "events in the history", name)
    yield "By the length of the history", "Cases by the number of events before them.", svg
    svg = lines(item, colours, "training events of the target", name)
    yield "By the popularity of the target", "Cases by the training events of the target.", svg
    if all("diversity" in model.lists for model in models):
        points = {model.name: (model.lists["diversity"], model.metrics[chosen].mean) for model in models}
        svg = scatter(points, colours, "intra-list diversity", name, report.curves)
        yield "Accuracy against diversity", "Up is more often right, right is more varied.", svg
    covered = {model.name: model.lists["coverage"] for model in models}
    shares = {name: Interval(share, share, share, 0, 0) for name, share in covered.items()}
    yield "Coverage", "Share of the catalog that is in any list.", dots(shares, colours, "coverage")
    if report.losses:
        yield "Losses", "Mean loss of each epoch.", trend(report.losses, "epoch", "loss")
