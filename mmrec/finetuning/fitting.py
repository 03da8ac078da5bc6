"""Heads that are fitted in closed form instead of being trained: each learned content to where its item should lie."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

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
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None,
) -> dict[Modality, Tower]:
    """Return the towers with those heads fitted that are to be, on the contents of some items.

    The target of a content is the mean direction of the targets of its items: those that are given, a row for each item
    of the corpus and zero where nothing is known of it, or else what the frozen modality has of them. Beyond
    `mmrec.finetuning.head_fitting.MOST` contents, as many are drawn.

    Raises UsageError where no targets are given and no tower is frozen, where they are given and not all towers are
    fitted, or where too few items have both.
    """
    wanted = [modality for modality, tower in towers.items() if tower.settings.how == "fitted"]
    if not wanted:
        return dict(towers)
    if targets is None:
        aims = _taught_by(towers, samples, corpus)
    elif len(wanted) < len(towers):
        others = ", ".join(modality for modality in towers if modality not in wanted)
        raise UsageError(
            f"Of this objective, heads are fitted to vectors of its own, where those of {others} do not lie. Give all "
            'towers how = "fitted", or none.'
        )
    else:
        aims = unit(targets().astype(np.float32))
    taught = items[aims[items].any(axis=1)]
    return {m: _fitted(t, samples[m], corpus, taught, aims, seed) if m in wanted else t for m, t in towers.items()}


def _taught_by(
    towers: Mapping[Modality, Tower], samples: Mapping[Modality, Samples], corpus: Corpus
) -> Float32[np.ndarray, "items dim"]:
    """Where the frozen modality's contents of each item lie; zero for items without."""
    teacher = next((m for m, t in towers.items() if t.settings.how == "frozen" and m in samples), None)
    if teacher is None:
        raise UsageError(
            'A head is fitted to the vectors of a frozen modality, and none is; give one how = "frozen", or this one '
            'how = "head".'
        )
    return unit((corpus.matrix(teacher) @ _stored(samples[teacher], teacher)).astype(np.float32))


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
