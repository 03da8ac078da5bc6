"""How far a fitted head may go from where its contents lie already: chosen by what it is taught, left out in turn.

Each group of contents is placed as if it had not been taught, all others as they are, and asked for by its targets and
the other way round, in the head's space and in that of the start together. Of the pulls, the one with the least mean
logarithm of the rank is taken; where two are alike, that which stays nearer to what was there. Pull 0 is among them:
what cannot be learned changes nothing.

A group is left out in closed form, without fitting again: with `G` the inverse of the likeness and ridge, the residual
of group g is the inverse of `G[g, g]` times the solved rows of g (Rasmussen and Williams 2006, section 5.4.2; for
groups, Hastie et al. 2009, section 7.10).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from mmrec.finetuning.head_fitting import HeadFit, centred_directions, likeness

__all__ = ["choose_pull", "left_out"]

PULLS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, float("inf"))
_MOST: Final = 2_000
"""Contents that are looked at, at most."""


def choose_pull(
    inputs: Mapping[str, Float[Tensor, "n _"]],
    targets: Float[Tensor, "n dim"],
    groups: Int64[np.ndarray, " n"],
    settings: HeadFit,
) -> HeadFit:
    """Return the settings with the best of `PULLS`; as they are where there is no start.

    Args:
        inputs: As in `fit_head`.
        targets: As in `fit_head`.
        groups: What is left out together: contents of items that share some.
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
    alike = likeness(_standard(inputs), settings.radial)
    apart = torch.from_numpy(groups[:, None] != groups)
    dim, found = wanted.shape[1], {}
    predicted = [(rows[:, :dim], rows[:, dim:]) for rows in left_out(alike, both, groups, settings.ridge)]
    for pull in PULLS:
        unseen, taught = (_placed(start, aims, known, pull) for aims, known in predicted)
        found[pull] = _mean_log_rank(wanted, normalize(start, dim=1), unseen, taught, apart)
    return replace(settings, pull=min(PULLS, key=lambda pull: (round(found[pull], 6), pull)))


def left_out(
    alike: Float[Tensor, "n n"], targets: Float[Tensor, "n dim"], groups: Int64[np.ndarray, " n"], ridge: float
) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n dim"]]:
    """Return where each row would be had its group not been taught, and where it is."""
    inverse = torch.linalg.inv(alike + ridge * torch.eye(len(alike), dtype=torch.float64))
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
    start: Float[Tensor, "n dim"], wanted: Float[Tensor, "n dim"], known: Float[Tensor, "n dim"], pull: float
) -> Float[Tensor, "n dim"]:
    """Directions by a pull, from what is predicted of the targets and of the start itself."""
    if pull == 0:
        return normalize(start, dim=1)
    return normalize(wanted if pull == float("inf") else start + pull * wanted - known, dim=1)


def _mean_log_rank(
    wanted: Float[Tensor, "n dim"],
    start: Float[Tensor, "n dim"],
    unseen: Float[Tensor, "n dim"],
    taught: Float[Tensor, "n dim"],
    apart: Bool[Tensor, "n n"],
) -> float:
    """Mean over all questions, from targets to contents and back; what is level counts half."""
    own = (wanted * (start + unseen)).sum(dim=1, keepdim=True)
    logs = []
    for scores in (wanted @ (start + taught).T, (start + unseen) @ wanted.T):
        above = ((scores > own) & apart).sum(dim=1) + ((scores == own) & apart).sum(dim=1) / 2
        logs.append(torch.log1p(above.to(torch.float64)))
    return float(torch.cat(logs).mean())
