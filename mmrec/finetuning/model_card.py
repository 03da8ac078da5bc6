"""The model card of a fine-tuned encoder: README.md with a YAML header, as hubs read it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmrec.encoders.factories import EncoderSpec
from mmrec.types import Space


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table before and after.

    Attributes:
        name: As in ``text to picture, R@10``.
        before: On held-out items, by the parents.
        after: On the same items, fine-tuned.
        interval: Bounds of the difference at 95%, where it was estimated.

    """

    name: str
    before: float
    after: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is told of a fine-tuning.

    Attributes:
        objective: What was learned, in a sentence.
        counts: How many of what it was learned from and measured on.
        measures: Before and after, on held-out items.
        verdict: Whether it helped, in a sentence.
        seed: Of all that was drawn.
        settings: How it was trained.

    """

    objective: str
    counts: Mapping[str, int]
    measures: Sequence[Measure]
    verdict: str
    seed: int
    settings: Mapping[str, object] = field(default_factory=dict)


def write_card(card: ModelCard, parent: EncoderSpec, parents: Sequence[Space], spaces: Sequence[Space]) -> str:
    """Return the card of one encoder: its `parent`, that one's spaces, and the spaces that it fills itself."""
    lines = [
        _header(parent),
        f"# {', '.join(space.name for space in spaces)}",
        "",
        card.objective,
        "",
        card.verdict,
        "",
    ]
    lines += ["## Data", "", "| what | count |", "|---|---|"]
    lines += [f"| {_cell(what)} | {count:,} |" for what, count in card.counts.items()]
    lines += ["", "## Before and after, on held-out items", "", "| measure | before | after | difference at 95% |"]
    lines += ["|---|---|---|---|", *(_row(measure) for measure in card.measures)]
    lines += ["", "## Spaces", "", "| space | numbers | fingerprint | made of |", "|---|---|---|---|"]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | |" for space in spaces if space not in parents]
    lines += [f"| {space.name} | {space.dim} | `{space.fingerprint}` | parent |" for space in parents]
    told = json.dumps({"seed": card.seed, **card.settings}, indent=2, default=str)
    lines += ["", "## Training", "", f"Parent: `{parent.factory}` {json.dumps(dict(parent.settings), default=str)}."]
    return "\n".join([*lines, "", "```json", told, "```", ""])


def _header(parent: EncoderSpec) -> str:
    about: dict[str, object] = {"library_name": "mmrec", "tags": ["mmrec", "embeddings", "fine-tuned"]}
    model = parent.settings.get("model")
    if isinstance(model, str) and not model.startswith(("/", ".", "~")):
        about["base_model"] = model
    # JSON is YAML.
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in about.items()), "---", ""])


def _row(measure: Measure) -> str:
    between = "" if measure.interval is None else f"{measure.interval[0]:+.4f} to {measure.interval[1]:+.4f}"
    return f"| {_cell(measure.name)} | {measure.before:.4f} | {measure.after:.4f} | {between} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
