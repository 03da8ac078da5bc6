"""Heads in closed form: kernel ridge regression, with the label bridge as prior mean where there is one.

Linear ridge regression shrinks training and unseen contents alike. With a Gaussian (RBF) kernel the training contents
are predicted nearly at their own targets, and the prediction for a content falls towards the prior mean the less it
resembles any training content (Saunders et al. 1998, "Ridge regression learning algorithm in dual variables"). Where
one of the inputs already lies in the target space, as a label bridge does, it is the prior mean of the equivalent
Gaussian process (Rasmussen and Williams 2006, section 2.7), and only the residual is fitted.

The scale of the targets beside the prior mean is chosen by leave-one-group-out cross-validation: each group of
contents is predicted from the others in closed form. With `G` the inverse of kernel plus ridge, the residual of group
g is the inverse of `G[g, g]` times the solved rows of g (Rasmussen and Williams 2006, section 5.4.2; for groups,
Hastie et al. 2009, section 7.10). The scale with the least mean log rank is taken; of equal ones the smaller. Scale 0
is among them, so that targets that cannot be predicted change nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.encoders.head import Head, HeadConfig
from mmrec.errors import UsageError
from mmrec.finetuning.config import FitSettings
from mmrec.finetuning.corpus import Corpus, groups_of
from mmrec.finetuning.samples import Samples, VectorSamples
from mmrec.finetuning.tower_building import FinetuneTower
from mmrec.finetuning.towers import VectorTower
from mmrec.types import Modality
from mmrec.unit import unit

MAX_CONTENTS: Final = 10_000
"""The kernel matrix is square, and is solved at the cost of the number of contents cubed."""
TARGET_SCALES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, math.inf)
_MAX_VALIDATED: Final = 2_000
"""Contents in the cross-validation, at most."""


def fit_head(
    inputs: Mapping[str, Float[Tensor, "n _"]],
    targets: Float[Tensor, "n dim"],
    fit: FitSettings,
    start: str | None = None,
    groups: Int64[np.ndarray, " n"] | None = None,
) -> Head:
    """Return the kernel ridge regression from the inputs to the directions of the targets from their mean.

    Args:
        inputs: Unit vectors of the training contents by space; the head reads the spaces in this order.
        targets: Unit vectors that they should be mapped to, such as their texts'.
        fit: How.
        start: The input of the targets' length that serves as prior mean; None for zero.
        groups: Cross-validation group of each row, where the target scale is chosen; None for each its own.

    Raises UsageError where there are fewer than two or more than `MAX_CONTENTS` contents, or unlike numbers of rows.

    """
    count = len(targets)
    if any(len(rows) != count for rows in inputs.values()) or not 2 <= count <= MAX_CONTENTS:
        given = {name: len(rows) for name, rows in inputs.items()}
        raise UsageError(
            f"A head is fitted on 2 to {MAX_CONTENTS:,} contents with one target each, and was given {given} and "
            f"{count} targets. Fit on a sample, or train a head by gradients."
        )
    target_scale = math.inf if fit.target_scale is None else fit.target_scale
    if start is not None and fit.target_scale is None:
        groups = np.arange(count) if groups is None else groups
        target_scale = choose_target_scale(inputs, targets, groups, fit, start)
    start = start if math.isfinite(target_scale) else None
    widths = tuple((name, rows.shape[1]) for name, rows in inputs.items())
    hidden = count if fit.radial else 0
    head = Head(HeadConfig(inputs=widths, dim=targets.shape[1], hidden=hidden, radial=fit.radial, residual=start))
    head.standardise(inputs)
    wanted = centred_directions(targets)
    with torch.no_grad():
        head.outer.bias.zero_()
        if start is not None:
            wide = inputs[start].to(torch.float64)
            wanted = target_scale * wanted - (wide - wide.mean(dim=0))
            head.outer.bias.copy_(-wide.mean(dim=0))
        rows = (torch.cat(list(inputs.values()), dim=1) - head.shift) * head.scale
        if head.inner is not None:
            head.inner.weight.copy_(rows)
            head.inner.bias.zero_()
        if start is not None and target_scale == 0:
            head.outer.weight.zero_()
        else:
            head.outer.weight.copy_(_solved(rows, wanted, fit))
    return head.eval()


def _solved(rows: Float[Tensor, "n width"], wanted: Float[Tensor, "n dim"], fit: FitSettings) -> Float[Tensor, "dim _"]:
    ridge = fit.ridge * torch.eye(len(rows), dtype=torch.float64)
    solved = torch.linalg.solve(kernel(rows, fit.radial) + ridge, wanted)
    return solved.T if fit.radial else solved.T @ rows.to(torch.float64) / rows.shape[1]


def centred_directions(targets: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """Return directions from the mean, in float64."""
    wide = targets.to(torch.float64)
    return torch.nn.functional.normalize(wide - wide.mean(dim=0), dim=1)


def kernel(rows: Float[Tensor, "n width"], radial: float) -> Float[Tensor, "n n"]:
    """Return the linear kernel of rows, or the Gaussian (RBF) kernel where `radial` is above 0, in float64."""
    wide = rows.to(torch.float64)
    products = wide @ wide.T / rows.shape[1]
    if not radial:
        return products
    lengths = products.diagonal()
    apart = (lengths[:, None] + lengths - 2 * products).clamp_min(0)
    return torch.exp(-radial / 2 * apart)


def choose_target_scale(
    inputs: Mapping[str, Float[Tensor, "n _"]],
    targets: Float[Tensor, "n dim"],
    groups: Int64[np.ndarray, " n"],
    fit: FitSettings,
    start: str,
) -> float:
    """Return the best of `TARGET_SCALES` by cross-validation. Arguments are those of `fit_head`."""
    if len(targets) > _MAX_VALIDATED:
        some = np.sort(np.random.default_rng(0).choice(len(targets), _MAX_VALIDATED, replace=False))
        at = torch.from_numpy(some)
        inputs, targets, groups = {name: rows[at] for name, rows in inputs.items()}, targets[at], groups[some]
    prior = inputs[start].to(torch.float64)
    prior = prior - prior.mean(dim=0)
    wanted = centred_directions(targets)
    gram = kernel(_standard(inputs), fit.radial)
    apart = torch.from_numpy(groups[:, None] != groups)
    unseen, fitted = leave_one_group_out(gram, torch.cat([wanted, prior], dim=1), groups, fit.ridge)

    def loss(scale: float) -> tuple[float, float]:
        halves = (rows.tensor_split(2, dim=1) for rows in (unseen, fitted))
        placed = [_at_scale(prior, targets, known, scale) for targets, known in halves]
        return round(mean_log_rank(wanted, normalize(prior, dim=1), placed[0], placed[1], apart), 6), scale

    return min(TARGET_SCALES, key=loss)


def leave_one_group_out(
    gram: Float[Tensor, "n n"], targets: Float[Tensor, "n dim"], groups: Int64[np.ndarray, " n"], ridge: float
) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n dim"]]:
    """Return the predictions of each row from all other groups, and the fitted values."""
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=torch.float64))
    solved = inverse @ targets
    residuals = solved / inverse.diagonal()[:, None]
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    for group in np.flatnonzero(counts > 1).tolist():
        own = torch.from_numpy(np.flatnonzero(numbers == group))
        residuals[own] = torch.linalg.solve(inverse[own][:, own], solved[own])
    return targets - residuals, targets - ridge * solved


def _standard(inputs: Mapping[str, Float[Tensor, "n _"]]) -> Float[Tensor, "n width"]:
    parts = [rows.to(torch.float64) for rows in inputs.values()]
    centred = [part - part.mean(dim=0) for part in parts]
    return torch.cat([part / part.square().mean().sqrt().clamp_min(1e-6) for part in centred], dim=1)


def _at_scale(
    prior: Float[Tensor, "n dim"], wanted: Float[Tensor, "n dim"], known: Float[Tensor, "n dim"], target_scale: float
) -> Float[Tensor, "n dim"]:
    """Directions at one target scale, from predictions of the targets and of the prior mean."""
    if target_scale == 0:
        return normalize(prior, dim=1)
    return normalize(wanted if math.isinf(target_scale) else prior + target_scale * wanted - known, dim=1)


def mean_log_rank(
    wanted: Float[Tensor, "n dim"],
    start: Float[Tensor, "n dim"],
    unseen: Float[Tensor, "n dim"],
    fitted: Float[Tensor, "n dim"],
    apart: Bool[Tensor, "n n"],
) -> float:
    """Mean log rank over all queries, from targets to contents and back; ties count half."""
    own = (wanted * (start + unseen)).sum(dim=1, keepdim=True)
    logs = []
    for scores in (wanted @ (start + fitted).T, (start + unseen) @ wanted.T):
        above = ((scores > own) & apart).sum(dim=1) + ((scores == own) & apart).sum(dim=1) / 2
        logs.append(torch.log1p(above.to(torch.float64)))
    return float(torch.cat(logs).mean())


def fit_towers(
    towers: Mapping[Modality, FinetuneTower],
    samples: Mapping[Modality, Samples],
    corpus: Corpus,
    items: Int64[np.ndarray, " n"],
    seed: int,
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None,
) -> dict[Modality, FinetuneTower]:
    """Return the towers with those heads fitted that are to be, on the contents of some items.

    The target of a content is the mean direction of the targets of its items: those that are given, a row for each item
    of the corpus and zero where nothing is known of it, or else what the frozen modality has of them. Beyond
    `MAX_CONTENTS` contents, as many are drawn. The first input that can be compared with the frozen modality already is
    the prior mean; cross-validation chooses how far to go from there.

    Raises UsageError where no targets are given and no tower is frozen, where they are given and not all towers are
    fitted, or where too few items have both.
    """
    fitted = [modality for modality, tower in towers.items() if tower.settings.how == "fitted"]
    if not fitted:
        return dict(towers)
    if targets is not None and len(fitted) < len(towers):
        others = ", ".join(modality for modality in towers if modality not in fitted)
        raise UsageError(
            f"Of this objective, heads are fitted to vectors of its own, where those of {others} do not lie. Give all "
            'towers how = "fitted", or none.'
        )
    item_targets, space = _frozen_targets(towers, samples, corpus) if targets is None else (targets(), None)
    item_targets = unit(item_targets.astype(np.float32))
    train = items[item_targets[items].any(axis=1)]
    made = dict(towers)
    for modality in fitted:
        tower, own = towers[modality], corpus.contents[modality]
        if not isinstance(tower, VectorTower):
            raise UsageError(f"The head of {modality} cannot be fitted: its encoder is trained.")
        owned = own.matrix[train]
        content_targets = unit((owned.T @ item_targets[train]).astype(np.float32))
        places = np.flatnonzero(np.asarray(owned.sum(axis=0)).ravel() > 0)
        if len(places) > MAX_CONTENTS:
            places = np.sort(np.random.default_rng(seed).choice(places, MAX_CONTENTS, replace=False))
        groups = np.empty(len(own), dtype=np.int64)
        groups[own.places] = groups_of(corpus)[own.owners]
        inputs, wanted = torch.from_numpy(_stored(samples, modality)[places]), torch.from_numpy(content_targets[places])
        made[modality] = _fitted(tower, inputs, wanted, space, groups[places])
    return made


def _frozen_targets(
    towers: Mapping[Modality, FinetuneTower], samples: Mapping[Modality, Samples], corpus: Corpus
) -> tuple[Float[np.ndarray, "items _"], str]:
    """Sum of the vectors that the frozen modality has of each item, and the key of their space."""
    frozen = next((m for m, tower in towers.items() if tower.settings.how == "frozen" and m in samples), None)
    if frozen is None:
        raise UsageError(
            'A head is fitted to the vectors of a frozen modality, and none is; give one how = "frozen", or this one '
            'how = "head".'
        )
    return corpus.contents[frozen].matrix @ _stored(samples, frozen), towers[frozen].space.comparison_key


def _fitted(
    tower: VectorTower,
    rows: Float[Tensor, "n width"],
    targets: Float[Tensor, "n dim"],
    space: str | None,
    groups: Int64[np.ndarray, " n"],
) -> VectorTower:
    inputs, spaces = tower.split(rows), tower.source.by_name()
    # The first input that lies in the space of the targets already.
    alike = (name for name in inputs if (spaces[name].comparison_key, spaces[name].dim) == (space, targets.shape[1]))
    head = fit_head(inputs, targets, tower.settings.fit, next(alike, None), groups)
    return replace(tower, head=head.requires_grad_(requires_grad=False).eval())


def _stored(samples: Mapping[Modality, Samples], modality: Modality) -> Float32[np.ndarray, "n dim"]:
    own = samples[modality]
    if not isinstance(own, VectorSamples):
        raise UsageError(f"Heads are fitted on stored vectors, and those of {modality} are not.")
    return own.vectors
