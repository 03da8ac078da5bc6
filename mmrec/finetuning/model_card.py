"""The model card of a fine-tuned encoder: README.md with a YAML header, as hubs read it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmrec.encoders.factories import EncoderSpec
from mmrec.finetuning.verdict import Line
from mmrec.types import Space


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the card says of a fine-tuning.

    Attributes:
        objective: What was learned, in a sentence.
        counts: Numbers of training and test data.
        lines: Figures before and after, on held-out items.
        verdict: Whether it helped, in a sentence.
        seed: Of all that was drawn.
        settings: How it was trained.

    """

    objective: str
    counts: Mapping[str, int]
    lines: Sequence[Line]
    verdict: str
    seed: int
    settings: Mapping[str, object] = field(default_factory=dict)


def write_card(card: ModelCard, parent: EncoderSpec, parents: Sequence[Space], spaces: Sequence[Space]) -> str:
    """Return the card of one encoder: its `parent`, that one's spaces, and the spaces that it fills itself."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415 (only where a card is written)

    model = parent.settings.get("model")
    hub = isinstance(model, str) and not model.startswith(("/", ".", "~"))
    tags = ["mmrec", "embeddings", "fine-tuned"]
    header = ModelCardData(library_name="mmrec", tags=tags, base_model=str(model) if hub else None)
    lines = ["---", header.to_yaml(), "---", "", f"# {', '.join(space.name for space in spaces)}", ""]
    lines += [card.objective, "", card.verdict, "", "## Data", "", "| what | count |", "|---|---|"]
    lines += [f"| {_cell(what)} | {count:,} |" for what, count in card.counts.items()]
    lines += ["", "## Before and after, on held-out items", "", "| measure | before | after | difference at 95% |"]
    lines += ["|---|---|---|---|", *(_row(line) for line in card.lines)]
    lines += ["", "## Spaces", "", "| space | numbers | fingerprint | made of |", "|---|---|---|---|"]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | |" for space in spaces if space not in parents]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | parent |" for space in parents]
    settings = json.dumps({"seed": card.seed, **card.settings}, indent=2, default=str)
    lines += ["", "## Training", "", f"Parent: `{parent.factory}` {json.dumps(dict(parent.settings), default=str)}."]
    return "\n".join([*lines, "", "```json", settings, "```", ""])


def _row(line: Line) -> str:
    change = line.difference
    between = "" if math.isnan(change.low) else f"{change.low:+.4f} to {change.high:+.4f}"
    name = f"{line.asked}, {line.metric.upper()}"
    return f"| {_cell(name)} | {line.before.mean:.4f} | {line.after.mean:.4f} | {between} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
