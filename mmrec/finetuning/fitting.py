"""Heads that are fitted in closed form instead of being trained: each learned content to where its texts lie."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.head_fitting import MOST, HeadFit, fit_head
from mmrec.finetuning.samples import Samples, VectorSamples
from mmrec.finetuning.tower_building import Tower
from mmrec.finetuning.vector_tower import VectorTower
from mmrec.modality import Modality
from mmrec.unit import unit

__all__ = ["fit_towers"]


def fit_towers(
    towers: Mapping[Modality, Tower],
    samples: Mapping[Modality, Samples],
    corpus: Corpus,
    items: Int64[np.ndarray, "n"],
    seed: int,
) -> dict[Modality, Tower]:
    """Return the towers with those heads fitted that are to be, on the contents of some items.

    The target of a content is the mean direction of what the frozen modality has of its items. Beyond
    `mmrec.finetuning.head_fitting.MOST` contents, as many are drawn.

    Raises UsageError where no tower is frozen, or where too few items have both.
    """
    wanted = [modality for modality, tower in towers.items() if tower.settings.how == "fitted"]
    if not wanted:
        return dict(towers)
    teacher = next((m for m, t in towers.items() if t.settings.how == "frozen" and m in samples), None)
    if teacher is None:
        raise UsageError(
            'A head is fitted to the vectors of a frozen modality, and none is; give one how = "frozen", or this one '
            'how = "head".'
        )
    vectors = _stored(samples[teacher], teacher)
    targets = unit((corpus.matrix(teacher) @ vectors).astype(np.float32))
    taught = items[corpus.have(teacher)[items]]
    return {m: _fitted(t, samples[m], corpus, taught, targets, seed) if m in wanted else t for m, t in towers.items()}


def _fitted(
    tower: Tower,
    samples: Samples,
    corpus: Corpus,
    taught: Int64[np.ndarray, "n"],
    targets: np.ndarray,
    seed: int,
) -> Tower:
    modality = tower.modality
    if not isinstance(tower, VectorTower):
        raise UsageError(f"The head of {modality} cannot be fitted: its encoder is trained.")
    owned = corpus.matrix(modality)[taught]
    aims = unit((owned.T @ targets[taught]).astype(np.float32))
    places = np.flatnonzero(np.asarray(owned.sum(axis=0)).ravel() > 0)
    if len(places) > MOST:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST, replace=False))
    rows = torch.from_numpy(_stored(samples, modality)[places])
    parts = torch.split(rows, [dim for _, dim in tower.inputs], dim=1)
    inputs = {name: part for (name, _), part in zip(tower.inputs, parts, strict=True)}
    fit = tower.settings.fit
    head = fit_head(inputs, torch.from_numpy(aims[places]), HeadFit(fit.radial, fit.ridge))
    return replace(tower, head=head.requires_grad_(requires_grad=False).eval())


def _stored(samples: Samples, modality: Modality) -> np.ndarray:
    if not isinstance(samples, VectorSamples):
        raise UsageError(f"Heads are fitted on stored vectors, and those of {modality} are not.")
    return samples.vectors[modality]
