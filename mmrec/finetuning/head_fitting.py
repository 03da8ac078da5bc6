"""Heads in closed form: kernel ridge regression, with the label bridge as prior mean where there is one.

Linear ridge regression shrinks training and unseen contents gram. With a Gaussian (RBF) kernel the training contents
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
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.encoders.head import Head, HeadConfig
from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus, groups_of
from mmrec.finetuning.samples import Samples, VectorSamples
from mmrec.finetuning.tower_building import Tower
from mmrec.finetuning.towers import VectorTower
from mmrec.types import Modality
from mmrec.unit import unit

MOST: Final = 10_000
"""Contents at most: their Gaussians are a square matrix, solved at the cost of their number cubed."""


@dataclass(frozen=True, slots=True)
class HeadFit:
    """How a head is fitted.

    Attributes:
        radial: How narrow the Gaussians are (see `HeadConfig`); 0 for a linear map. On the stamps' images 1
            to 12 find .58 to .64 of held-out texts within ten; for their few audio clips 12 is too narrow.
        ridge: What is added to the diagonal; of inputs of squared length one on average where the map is linear.
        start: The input, as long as the targets, that what is fitted is added to; None for none.
        target_scale: Length of the targets beside the prior mean: 0 keeps the prior mean, infinity ignores it.

    """

    radial: float = 3.0
    ridge: float = 0.1
    start: str | None = None
    target_scale: float = float("inf")

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that fit nothing."""
        if not self.target_scale >= 0:
            raise UsageError(
                f"target_scale = {self.target_scale:g}: it must be 0 or more; infinity ignores the prior mean."
            )
        if not 0 <= self.radial < float("inf") or not 0 < self.ridge < float("inf"):
            raise UsageError(
                f"radial = {self.radial:g}, ridge = {self.ridge:g}: radial must be 0 or more and ridge above 0."
            )


def fit_head(inputs: Mapping[str, Float[Tensor, "n _"]], targets: Float[Tensor, "n dim"], settings: HeadFit) -> Head:
    """Return the kernel ridge regression from the inputs to the directions of the targets from their mean.

    Args:
        inputs: Unit vectors of the training contents by space; the head reads the spaces in this order.
        targets: Unit vectors that they should be mapped to, such as their texts'.
        settings: How.

    Raises UsageError where there are fewer than two or more than `MOST` contents, or unlike numbers of rows.

    """
    count = len(targets)
    if any(len(rows) != count for rows in inputs.values()) or not 2 <= count <= MOST:
        given = {name: len(rows) for name, rows in inputs.items()}
        raise UsageError(
            f"A head is fitted on 2 to {MOST:,} contents with one target each, and was given {given} and {count} "
            "targets. Fit on a sample, or train a head by gradients."
        )
    hidden = count if settings.radial else 0
    widths = tuple((name, rows.shape[1]) for name, rows in inputs.items())
    start = settings.start if math.isfinite(settings.target_scale) else None
    head = Head(HeadConfig(inputs=widths, dim=targets.shape[1], hidden=hidden, radial=settings.radial, residual=start))
    head.standardise(inputs)
    wanted = centred_directions(targets)
    with torch.no_grad():
        head.outer.bias.zero_()
        if start is not None:
            wide = inputs[start].to(torch.float64)
            wanted = settings.target_scale * wanted - (wide - wide.mean(dim=0))
            head.outer.bias.copy_(-wide.mean(dim=0))
        rows = (torch.cat(list(inputs.values()), dim=1) - head.shift) * head.scale
        _solve(head, rows, wanted, settings)
    return head.eval()


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


def _solve(head: Head, rows: Float[Tensor, "n width"], wanted: Float[Tensor, "n dim"], settings: HeadFit) -> None:
    if head.inner is not None:
        head.inner.weight.copy_(rows)
        head.inner.bias.zero_()
    if head.config.residual is not None and settings.target_scale == 0:
        head.outer.weight.zero_()
        return
    gram = kernel(rows, settings.radial)
    solved = torch.linalg.solve(gram + settings.ridge * torch.eye(len(rows), dtype=torch.float64), wanted)
    weight = solved.T if head.inner is not None else solved.T @ rows.to(torch.float64) / rows.shape[1]
    head.outer.weight.copy_(weight)


TARGET_SCALES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, float("inf"))
_MOST: Final = 2_000
"""Contents that are looked at, at most."""


def choose_target_scale(
    inputs: Mapping[str, Float[Tensor, "n _"]],
    targets: Float[Tensor, "n dim"],
    groups: Int64[np.ndarray, " n"],
    settings: HeadFit,
) -> HeadFit:
    """Return the settings with the best of `TARGET_SCALES`; as they are where there is no start.

    Args:
        inputs: As in `fit_head`.
        targets: As in `fit_head`.
        groups: Cross-validation group of each row: contents of items that share some.
        settings: The others are kept.

    """
    if settings.start is None:
        return settings
    if len(targets) > _MOST:
        some = np.sort(np.random.default_rng(0).choice(len(targets), _MOST, replace=False))
        at = torch.from_numpy(some)
        inputs, targets, groups = {name: rows[at] for name, rows in inputs.items()}, targets[at], groups[some]
    start = inputs[settings.start].to(torch.float64)
    start = start - start.mean(dim=0)
    wanted = centred_directions(targets)
    both = torch.cat([wanted, start], dim=1)
    gram = kernel(_standard(inputs), settings.radial)
    apart = torch.from_numpy(groups[:, None] != groups)
    dim, found = wanted.shape[1], {}
    predicted = [(rows[:, :dim], rows[:, dim:]) for rows in leave_one_group_out(gram, both, groups, settings.ridge)]
    for target_scale in TARGET_SCALES:
        unseen, taught = (_placed(start, aims, known, target_scale) for aims, known in predicted)
        found[target_scale] = mean_log_rank(wanted, normalize(start, dim=1), unseen, taught, apart)
    return replace(
        settings,
        target_scale=min(TARGET_SCALES, key=lambda target_scale: (round(found[target_scale], 6), target_scale)),
    )


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


def _placed(
    start: Float[Tensor, "n dim"], wanted: Float[Tensor, "n dim"], known: Float[Tensor, "n dim"], target_scale: float
) -> Float[Tensor, "n dim"]:
    """Directions at one target scale, from predictions of the targets and of the prior mean."""
    if target_scale == 0:
        return normalize(start, dim=1)
    return normalize(wanted if target_scale == float("inf") else start + target_scale * wanted - known, dim=1)


def mean_log_rank(
    wanted: Float[Tensor, "n dim"],
    start: Float[Tensor, "n dim"],
    unseen: Float[Tensor, "n dim"],
    taught: Float[Tensor, "n dim"],
    apart: Bool[Tensor, "n n"],
) -> float:
    """Mean log rank over all queries, from targets to contents and back; ties count half."""
    own = (wanted * (start + unseen)).sum(dim=1, keepdim=True)
    logs = []
    for scores in (wanted @ (start + taught).T, (start + unseen) @ wanted.T):
        above = ((scores > own) & apart).sum(dim=1) + ((scores == own) & apart).sum(dim=1) / 2
        logs.append(torch.log1p(above.to(torch.float64)))
    return float(torch.cat(logs).mean())


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
    `mmrec.finetuning.head_fitting.MOST` contents, as many are drawn. The first input that can be compared with
    the frozen modality already is the prior mean; cross-validation chooses how far to go from there.

    Raises UsageError where no targets are given and no tower is frozen, where they are given and not all towers are
    fitted, or where too few items have both.
    """
    wanted = [modality for modality, tower in towers.items() if tower.settings.how == "fitted"]
    if not wanted:
        return dict(towers)
    place = None
    if targets is None:
        teacher = _frozen_tower(towers, samples)
        place = teacher.space.comparison_key
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


def _frozen_tower(towers: Mapping[Modality, Tower], samples: Mapping[Modality, Samples]) -> Tower:
    """Return the frozen tower, whose vectors are the targets."""
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
    if fit.target_scale is None:
        groups = _groups(corpus, modality)[places]
        settings = choose_target_scale(inputs, wanted, groups, settings)
    else:
        settings = replace(settings, target_scale=fit.target_scale)
    head = fit_head(inputs, wanted, settings)
    return replace(tower, head=head.requires_grad_(requires_grad=False).eval())


def _start(tower: VectorTower, place: str | None, dim: int) -> str | None:
    """Name of the first input that lies in the space of the targets already."""
    spaces = tower.source.by_name()
    able = [name for name, _ in tower.inputs if (spaces[name].comparison_key, spaces[name].dim) == (place, dim)]
    return able[0] if able else None


def _groups(corpus: Corpus, modality: Modality) -> Int64[np.ndarray, " contents"]:
    """Group of each content: that of its items."""
    own = corpus.contents[modality]
    groups = np.empty(len(own), dtype=np.int64)
    groups[own.places] = groups_of(corpus)[own.owners]
    return groups


def _stored(samples: Samples, modality: Modality) -> np.ndarray:
    if not isinstance(samples, VectorSamples):
        raise UsageError(f"Heads are fitted on stored vectors, and those of {modality} are not.")
    return samples.vectors[modality]
