"""Heads that are fitted in closed form instead of being trained: each learned content to where its item should lie."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64, Int64

from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.fit_choice import choose_pull
from mmrec.finetuning.head_fitting import MOST, HeadFit, fit_head
from mmrec.finetuning.held_out import groups_of
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
    items: Int64[np.ndarray, " n"],
    seed: int,
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None,
) -> dict[Modality, Tower]:
    """Return the towers with those heads fitted that are to be, on the contents of some items.

    The target of a content is the mean direction of the targets of its items: those that are given, a row for each item
    of the corpus and zero where nothing is known of it, or else what the frozen modality has of them. Beyond
    `mmrec.finetuning.head_fitting.MOST` contents, as many are drawn. A head starts from the first of its inputs that
    can be compared with the frozen modality already, and goes from there as far as `fit_choice` finds good.

    Raises UsageError where no targets are given and no tower is frozen, where they are given and not all towers are
    fitted, or where too few items have both.
    """
    wanted = [modality for modality, tower in towers.items() if tower.settings.how == "fitted"]
    if not wanted:
        return dict(towers)
    place = None
    if targets is None:
        teacher = _teacher(towers, samples)
        place = teacher.space.meeting_place
        known = _stored(samples[teacher.modality], teacher.modality)
        aims = unit((corpus.matrix(teacher.modality) @ known).astype(np.float32))
    elif len(wanted) < len(towers):
        others = ", ".join(modality for modality in towers if modality not in wanted)
        raise UsageError(
            f"Of this objective, heads are fitted to vectors of its own, where those of {others} do not lie. Give all "
            'towers how = "fitted", or none.'
        )
    else:
        aims = unit(targets().astype(np.float32))
    taught = items[aims[items].any(axis=1)]
    return {
        m: _fitted(t, samples[m], corpus, taught, aims, place, seed) if m in wanted else t for m, t in towers.items()
    }


def _teacher(towers: Mapping[Modality, Tower], samples: Mapping[Modality, Samples]) -> Tower:
    """Return the frozen tower, whose contents say where others should lie."""
    found = next((tower for m, tower in towers.items() if tower.settings.how == "frozen" and m in samples), None)
    if found is None:
        raise UsageError(
            'A head is fitted to the vectors of a frozen modality, and none is; give one how = "frozen", or this one '
            'how = "head".'
        )
    return found


def _fitted(
    tower: Tower,
    samples: Samples,
    corpus: Corpus,
    taught: Int64[np.ndarray, " n"],
    targets: np.ndarray,
    place: str | None,
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
    fit, wanted = tower.settings.fit, torch.from_numpy(aims[places])
    settings = HeadFit(fit.radial, fit.ridge, _start(tower, place, wanted.shape[1]))
    if fit.pull is None:
        groups = _groups(corpus, modality)[places]
        settings = choose_pull(inputs, wanted, groups, settings)
    else:
        settings = replace(settings, pull=fit.pull)
    head = fit_head(inputs, wanted, settings)
    return replace(tower, head=head.requires_grad_(requires_grad=False).eval())


def _start(tower: VectorTower, place: str | None, dim: int) -> str | None:
    """Name of the first input that lies among the targets already."""
    spaces = tower.source.by_name()
    able = [name for name, _ in tower.inputs if (spaces[name].meeting_place, spaces[name].dim) == (place, dim)]
    return able[0] if able else None


def _groups(corpus: Corpus, modality: Modality) -> Int64[np.ndarray, " contents"]:
    """Group of each content: that of its items, which by their sharing it are of one."""
    own = corpus.contents[modality]
    groups = np.empty(len(own), dtype=np.int64)
    groups[own.places] = groups_of(corpus)[own.owners]
    return groups


def _stored(samples: Samples, modality: Modality) -> np.ndarray:
    if not isinstance(samples, VectorSamples):
        raise UsageError(f"Heads are fitted on stored vectors, and those of {modality} are not.")
    return samples.vectors[modality]
