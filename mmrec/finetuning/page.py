"""The report of a fine-tuning: one page that needs no network and no script."""

import math
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

import mmrec.evaluation.report
from mmrec.evaluation.report import dots, page_template, trend
from mmrec.finetuning.model_card import FinetuneReport
from mmrec.finetuning.verdict import Line

_FOLDERS = (Path(__file__).parent, Path(mmrec.evaluation.report.__file__).parent)


def render_page(report: FinetuneReport, title: str, facts: Mapping[str, str]) -> str:
    """Return the page as HTML; `facts` are what else a reader has to know, by name."""
    judged = [line for line in report.verdict.lines if line.metric == report.verdict.metric]
    return page_template("finetuning.html.jinja", *_FOLDERS).render(
        report=report,
        title=title,
        facts={**{name: f"{count:,}" for name, count in report.counts.items()}, **facts},
        difference=_svg(
            dots(
                {line.asked: line.difference for line in judged},
                {line.asked: number for number, line in enumerate(judged)},
                f"{report.verdict.metric.upper()}, difference",
                zero=True,
            )
        ),
        curves=_svg(trend(_curves(report), "epoch", f"loss and {_validation(report)}")) if report.curve else "",
        is_whole=_is_whole,
    )


def _curves(report: FinetuneReport) -> dict[str, list[float]]:
    """Loss and validation over epochs, without the moment before the first."""
    trained = [point for point in report.curve if point.epoch > 0]
    judged = [point.score for point in trained if point.score is not None]
    return {"loss": [point.loss for point in trained], _validation(report): judged}


def _validation(report: FinetuneReport) -> str:
    return f"validation {report.verdict.metric.upper()}"


def _is_whole(line: Line) -> bool:
    """Whether the ends of a line's intervals are known; those of a median are not."""
    return not math.isnan(line.difference.low)


def _svg(drawn: str) -> Markup:
    return Markup(drawn)  # noqa: S704 - drawn here; matplotlib escapes the names in it
