"""The report of a fine-tuning: one page that needs no network and no script."""

import math
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

import mmrec.evaluation.report
from mmrec.evaluation.report import dots, page_template, trend
from mmrec.finetuning.model_card import FinetuneReport

_FOLDERS = (Path(__file__).parent, Path(mmrec.evaluation.report.__file__).parent)


def render_page(report: FinetuneReport, title: str, facts: Mapping[str, str]) -> str:
    """Return the page as HTML; `facts` are what else a reader has to know, by name."""
    metric = report.verdict.metric.upper()
    judged = {line.asked: line.difference for line in report.verdict.lines if line.metric == report.verdict.metric}
    colours = {name: number for number, name in enumerate(judged)}
    # Without the moment before the first epoch.
    trained = [point for point in report.curve if point.epoch > 0]
    curves = {
        "loss": [point.loss for point in trained],
        f"validation {metric}": [point.score for point in trained if point.score is not None],
    }
    drawn = trend(curves, "epoch", f"loss and validation {metric}") if report.curve else ""
    return page_template("finetuning.html.jinja", *_FOLDERS).render(
        report=report,
        title=title,
        facts={**{name: f"{count:,}" for name, count in report.counts.items()}, **facts},
        difference=Markup(dots(judged, colours, f"{metric}, difference", zero=True)),  # noqa: S704 - drawn here
        curves=Markup(drawn),  # noqa: S704 - matplotlib escapes the names in it
        is_whole=lambda line: not math.isnan(line.difference.low),  # the ends of a median's intervals are not known
    )
