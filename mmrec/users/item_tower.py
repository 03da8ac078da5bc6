"""Item tower: whitened content vectors through an adaptor, plus a bounded delta of items seen in training."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.users.tower_config import TowerConfig

__all__ = ["ItemTower", "Whitening", "fit_whitening"]


_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """An affine map of contents; for those it was fitted on, the parts of the result do not correlate.

    Attributes:
        mean: What is taken off first.
        matrix: What is multiplied with then; the mean square norm of the result is about 1.

    """

    mean: Float32[np.ndarray, " content"]
    matrix: Float32[np.ndarray, "content white"]


def fit_whitening(contents: Float[np.ndarray, "n content"], most: int) -> Whitening:
    """Fit on the contents of items, in float64; keep at most so many of the strongest directions.

    Directions that hardly vary are damped and not blown up: a thousandth of the mean variance is added to each. Raises
    UsageError where there are no items, or their contents are not finite.
    """
    if not len(contents) or not np.isfinite(contents).all():
        raise UsageError("Whitening needs the contents of one item at least, and all of them finite numbers.")
    exact = contents.astype(np.float64)
    mean = exact.mean(axis=0)
    covariance = np.cov(exact, rowvar=False, bias=True).reshape(exact.shape[1], exact.shape[1])
    variances, directions = np.linalg.eigh(covariance)
    kept = np.argsort(-variances, kind="stable")[: min(most, max(1, len(contents) - 1))]
    ridge = _RIDGE * max(float(np.mean(variances.clip(0))), 1e-30)
    scales = 1 / np.sqrt(len(kept) * (variances[kept].clip(0) + ridge))
    matrix = np.ascontiguousarray(directions[:, kept] * scales, dtype=np.float32)
    return Whitening(mean.astype(np.float32), matrix)


# Rounding must not carry a delta over its bound.
_WITHIN = 1 - 1e-6


class ItemTower(nn.Module):
    """Whitened content -> adaptor -> unit vector, plus a delta of bounded norm -> unit vector.

    Attributes:
        rows: Row numbers of the items that have a delta, ascending.
        delta: Their deltas before the bound is put on them; the free vectors of a tower without content.

    """

    rows: Int64[Tensor, " known"]
    mean: Float[Tensor, " content"]
    matrix: Float[Tensor, "content white"]

    def __init__(self, config: TowerConfig, rows: Int64[Tensor, " known"], whitening: Whitening | None) -> None:
        super().__init__()
        self.bound = config.delta_bound if config.content else None
        self.register_buffer("rows", rows)
        self.delta = nn.Parameter(torch.zeros(len(rows), config.dim))
        if whitening is None:
            nn.init.normal_(self.delta, std=config.dim**-0.5)
            return
        self.register_buffer("mean", torch.from_numpy(whitening.mean))
        self.register_buffer("matrix", torch.from_numpy(whitening.matrix))
        white = whitening.matrix.shape[1]
        self.adaptor = (
            nn.Sequential(nn.Linear(white, config.adaptor), nn.GELU(), nn.Linear(config.adaptor, config.dim))
            if config.adaptor
            else nn.Linear(white, config.dim)
        )
        if isinstance(self.adaptor, nn.Linear):
            nn.init.orthogonal_(self.adaptor.weight)

    def whiten(self, contents: Float[Tensor, "n content"]) -> Float[Tensor, "n white"]:
        """Whiten contents; done once, as nothing of it is trained."""
        return (contents - self.mean) @ self.matrix

    def places(self, rows: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Place of each row number among those with a delta, -1 where it has none."""
        if not len(self.rows):
            return torch.full_like(rows, -1)
        at = torch.searchsorted(self.rows, rows).clamp(max=len(self.rows) - 1)
        return torch.where(self.rows[at] == rows, at, -1)

    def bounded(self, places: Int64[Tensor, " n"]) -> Float[Tensor, "n dim"]:
        """Deltas of the items at some places, none longer than the bound; zero for place -1."""
        deltas = nn.functional.embedding(places.clamp(min=0), self.delta) if len(self.rows) else None
        if deltas is None:
            return self.delta.new_zeros(len(places), self.delta.shape[1])
        if self.bound is not None:
            norms = deltas.detach().square().sum(dim=1, keepdim=True).sqrt()
            deltas = deltas * (self.bound * _WITHIN / norms.clamp(min=self.bound * _WITHIN + 1e-12))
        return deltas * (places >= 0).unsqueeze(1)

    def forward(
        self,
        white: Float[Tensor, "n white"] | None,
        places: Int64[Tensor, " n"],
        dropped: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n dim"]:
        """Return unit vectors.

        Args:
            white: Whitened contents; None in a tower without content.
            places: Where each item's delta is, -1 for none.
            dropped: Items whose delta is left out this time, so that their content learns to do without.

        """
        deltas = self.bounded(places)
        if white is None:
            return nn.functional.normalize(deltas, dim=1)
        if dropped is not None:
            deltas = deltas * (~dropped).unsqueeze(1)
        return nn.functional.normalize(nn.functional.normalize(self.adaptor(white), dim=1) + deltas, dim=1)
