"""Agreement of a modality with the texts of its items, measured on the catalog; it scales the modality's weight.

Two questions, each over pairs of items with different texts; chance is one half (the area under the ROC curve):

- Do a modality's neighbours share what the texts say? The texts of an item's nearest other items by image, say, are
  averaged, and are to be nearer to its own text than to another item's. This decides the modality's weight.
- Do texts find the modality? An item's text is to be nearer to its own image than to another's, in a block that
  is comparable with texts (a label bridge, an aligned or a joint space). This decides how much such a match counts.

An item's own content is no part of what is predicted for it, so nothing is judged by itself. The lower end of the 95%
interval over items decides, so that little evidence counts little; it becomes a distance in standard deviations
(Macmillan and Creelman 2005: d' = sqrt(2) times the normal quantile of the area).

Measured on the stamps (950 items with a text and an image), with all, half, a fifth and none of the images at their
own text: neighbours .916, .667, .516, .497 and texts to bridged images .774, .636, .556, .505. Best weight of images
beside texts for the nearest item of the same folder: 1, .25 to .5, below .05, 0; of bridged images for queries by
text: .5, .1 to .25, below .1, 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from mmrec.fusion.blocks import Block
from mmrec.types import Modality
from mmrec.unit import unit

LEAST_TEXTS = 50
"""Items with different texts that a measurement needs; with fewer a modality has full confidence."""

LEAST_CONFIDENCE = 0.02
"""Confidence of what is at chance: not zero, so that such a block can still be searched alone."""

FULL_NEIGHBOURS, FULL_TEXTS = 1.5, 0.9
"""Distances of full confidence, by neighbours and by texts: below those of the stamps, 1.86 and .98."""

NEIGHBOURS = 10

WARN_BELOW = 0.5
"""Confidence below which there is a warning."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a modality or a block tells an item's own text from another item's.

    Attributes:
        subject: A modality, judged by its neighbours, or the name of a block, judged by the texts that look into it.
        items: Items that were measured.
        rate: Share of the comparisons won; one half is chance.
        low: Lower end of the 95% interval over items.
        high: Upper end.
        confidence: From `LEAST_CONFIDENCE` to 1: what its weight is multiplied by.

    """

    subject: str
    items: int
    rate: float
    low: float
    high: float
    confidence: float


def neighbour_agreement(
    modality: Modality,
    vectors: Float32[np.ndarray, "n dim"],
    texts: Float32[np.ndarray, "n text_dim"],
    groups: Int64[np.ndarray, " n"],
) -> Agreement | None:
    """Judge a modality by whether an item's neighbours there have texts like its own.

    `groups` numbers the different texts. Returns None for fewer than `LEAST_TEXTS` of them.
    """
    if len(np.unique(groups)) < LEAST_TEXTS:
        return None
    apart = groups[:, None] != groups[None]
    near = np.where(apart, vectors @ vectors.T, -np.inf)
    nearest = np.argpartition(-near, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    predicted = unit(texts[nearest].sum(axis=1))
    # What the prediction was made of is no fair rival.
    apart[np.arange(len(apart))[:, None], nearest] = False
    return _agreement(str(modality), _won(predicted @ texts.T, apart), FULL_NEIGHBOURS)


def text_retrieval_agreement(
    block: Block,
    queries: Float32[np.ndarray, "n dim"],
    vectors: Float32[np.ndarray, "n dim"],
    groups: Int64[np.ndarray, " n"],
) -> Agreement | None:
    """Judge a block by whether items' texts, as queries in it, are nearer to their own item than to others.

    `groups` and None are as for `neighbour_agreement`.
    """
    if len(np.unique(groups)) < LEAST_TEXTS:
        return None
    return _agreement(block.name, _won(queries @ vectors.T, groups[:, None] != groups[None]), FULL_TEXTS)


def advice(agreements: Sequence[Agreement]) -> list[str]:
    """Say of each modality that agrees little with the texts what was measured, what follows and what to do."""
    sentences: dict[str, str] = {}
    best: dict[str, float] = {}
    for one in agreements:
        modality = one.subject.rpartition(".")[2]
        best[modality] = max(best.get(modality, 0.0), one.confidence)
    for one in agreements:
        modality = one.subject.rpartition(".")[2]
        acts = best[modality] if one.subject == modality else one.confidence
        if acts >= WARN_BELOW or modality in sentences:
            continue
        figures = (
            f"{one.rate:.1%} of comparisons with another's (95% interval {one.low:.1%} to {one.high:.1%}, "
            f"{one.items:,} items; chance is 50%)"
        )
        no_better = "no better than chance" if one.low <= 0.5 else "little better than chance"
        if one.subject == modality:
            sentences[modality] = (
                f"By {modality}, items agree with their texts {no_better}: an item's neighbours by {modality} point to "
                f"its own text in {figures}. So {modality} counts {acts:.0%} of its weight beside texts; "
                f"to decide yourself: --weights text=1,{modality}=1"
            )
        else:
            sentences[modality] = (
                f"Texts find items by {modality} {no_better}: a text is nearer to its own item in {figures}. So this "
                f"match counts {one.confidence:.0%} of its weight in queries by text; to decide yourself: "
                f"--weights text=1,{modality}=1"
            )
    return list(sentences.values())


def confidences(blocks: Sequence[Block], agreements: Sequence[Agreement]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each block the confidence in its modality, and in matches of texts with it; 1 if not measured.

    A block that texts retrieve well counts as trusted even if its neighbours disagree.
    """
    known: Mapping[str, float] = {one.subject: one.confidence for one in agreements}
    across = np.array([known.get(block.name, 1.0) for block in blocks], dtype=np.float32)
    own = np.array([known.get(str(block.modality), 1.0) for block in blocks], dtype=np.float32)
    for block in blocks:
        peers = np.array([peer.modality == block.modality for peer in blocks])
        own[peers] = np.maximum(own[peers], known.get(block.name, 0.0))
    return own, across


def _won(scores: Float32[np.ndarray, "n n"], rivals: Bool[np.ndarray, "n n"]) -> Float64[np.ndarray, " m"]:
    """Share of its rivals that each item's own score beats; ties count half. Items without a rival are left out."""
    own = np.diag(scores)[:, None]
    won = ((scores < own) & rivals).sum(axis=1) + ((scores == own) & rivals).sum(axis=1) / 2
    count = rivals.sum(axis=1)
    return won[count > 0] / count[count > 0]


def _agreement(subject: str, won: Float64[np.ndarray, " m"], whole: float) -> Agreement | None:
    if len(won) < LEAST_TEXTS:
        return None
    rate, half = float(won.mean()), 1.96 * float(won.std()) / float(np.sqrt(len(won)))
    low, high = max(0.0, rate - half), min(1.0, rate + half)
    distance = np.sqrt(2) * NormalDist().inv_cdf(float(np.clip(low, 0.5, 1 - 1e-6)))
    confidence = float(np.clip(distance / whole, LEAST_CONFIDENCE, 1.0))
    return Agreement(subject, len(won), *(round(value, 4) for value in (rate, low, high, confidence)))
