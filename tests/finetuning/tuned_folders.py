"""Fine-tuned encoders of which the contract suite asks what it asks of all."""

import functools
from pathlib import Path

import torch
from encoders.small_models.saving import ROOT

from mmrec.encoders.tuned import Tuned
from mmrec.finetuning.config import FinetuneConfig, HeadSettings, TowerSettings
from mmrec.finetuning.model_card import FinetuneReport
from mmrec.finetuning.saving import save_encoders
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import load_sources
from mmrec.finetuning.verdict import Verdict
from mmrec.types import Modality


@functools.cache
def _folder() -> Path:
    """Texts whose weights and head are others, pictures and sounds with a head alone."""
    torch.manual_seed(0)
    sources = load_sources(device="cpu")
    head = TowerSettings(head=HeadSettings(dim=24, hidden=16))
    text = TowerSettings(how="full", last_blocks=1, head=HeadSettings(dim=24))
    towers = build_towers(sources, {Modality.TEXT: text, Modality.IMAGE: head, Modality.AUDIO: head})
    samples = [towers[Modality.TEXT].prepare(text) for text in ("A cat.", "a boat")]
    towers[Modality.TEXT].embed(samples)[:, 0].sum().backward()
    with torch.no_grad():
        for value in towers[Modality.TEXT].network.parameters():
            if value.grad is not None:
                value.sub_(value.grad, alpha=0.05)
    report = FinetuneReport("align", {}, (), 0, Verdict("no difference", "Not measured.", "mrr", ()))
    save_encoders(towers, sources, ROOT / "tuned", report, FinetuneConfig())
    return ROOT / "tuned"


def tuned(name: str) -> Tuned:
    """Return one of the encoders by the name of its folder."""
    return Tuned(str(_folder() / name))
