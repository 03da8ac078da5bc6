"""The report of a fine-tuning, and the model card of its encoders: README.md with a YAML header, as hubs read it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mmrec.encoders.factories import EncoderSpec
from mmrec.finetuning.config import FinetuneConfig, ObjectiveName
from mmrec.finetuning.verdict import Line, Verdict
from mmrec.training.trainer import Epoch
from mmrec.types import Space


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """How a fine-tuning went.

    Attributes:
        objective: What was learned.
        counts: Items, contents, pairs and questions.
        curve: Each epoch.
        best_epoch: The one whose weights are kept; 0 where those from before were best.
        verdict: Before and after on held-out items, and whether it helped.

    """

    objective: ObjectiveName
    counts: Mapping[str, int]
    curve: tuple[Epoch, ...]
    best_epoch: int
    verdict: Verdict


_SENTENCES: Final[Mapping[str, str]] = {
    "align": "Trained so that contents of different modalities of one item are close.",
    "coengage": "Trained so that items that the same users take one after the other are close.",
    "label": "Trained so that items of one label are close.",
}


def model_card(
    report: FinetuneReport,
    config: FinetuneConfig,
    parent: EncoderSpec,
    parents: Sequence[Space],
    spaces: Sequence[Space],
) -> str:
    """Return the card of one encoder: its `parent`, that one's spaces, and the spaces that it fills itself."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (only where a card is written)

    model = parent.settings.get("model")
    hub = isinstance(model, str) and not model.startswith(("/", ".", "~"))
    tags = ["mmrec", "embeddings", "fine-tuned"]
    header = ModelCardData(library_name="mmrec", tags=tags, base_model=str(model) if hub else None)
    lines = ["---", header.to_yaml(), "---", "", f"# {', '.join(space.name for space in spaces)}", ""]
    lines += [
        _SENTENCES[report.objective],
        "",
        report.verdict.sentence,
        "",
        "## Data",
        "",
        "| what | count |",
        "|---|---|",
    ]
    lines += [f"| {_cell(what)} | {count:,} |" for what, count in report.counts.items()]
    lines += ["", "## Before and after, on held-out items", "", "| measure | before | after | difference at 95% |"]
    lines += ["|---|---|---|---|", *(_row(line) for line in report.verdict.lines)]
    lines += ["", "## Spaces", "", "| space | numbers | fingerprint | made of |", "|---|---|---|---|"]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | |" for space in spaces if space not in parents]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | parent |" for space in parents]
    changed = config.model_dump(mode="json", exclude_defaults=True)
    settings = json.dumps({"seed": config.seed, **changed}, indent=2, default=str)
    lines += ["", "## Training", "", f"Parent: `{parent.factory}` {json.dumps(dict(parent.settings), default=str)}."]
    return "\n".join([*lines, "", "```json", settings, "```", ""])


def _row(line: Line) -> str:
    change = line.difference
    between = "" if math.isnan(change.low) else f"{change.low:+.4f} to {change.high:+.4f}"
    name = f"{line.asked}, {line.metric.upper()}"
    return f"| {_cell(name)} | {line.before.mean:.4f} | {line.after.mean:.4f} | {between} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
