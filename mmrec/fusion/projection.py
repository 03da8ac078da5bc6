"""Fewer dimensions by rotation and truncation, block by block.

One rotation over all blocks would keep a little more variance in the same dimensions, but would mix the blocks: a query
against pictures alone would then be answered by texts too. So each block has a rotation of its own, and the blocks
compete for the dimensions with their eigenvalues. There is no whitening: it would cancel the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy.linalg import eigh

__all__ = ["Rotation", "allot", "fit_rotation"]

NO_ENERGY = 1e-7
"""Below this share an eigenvalue of float32 vectors is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Orthonormal directions of a block, most variance first.

    Attributes:
        directions: One a column.
        energy: Share of the block's squared length along each direction; all directions of the space sum to one.

    """

    directions: Float32[np.ndarray, "dim kept"]
    energy: Float32[np.ndarray, "kept"]

    def truncated(self, kept: int) -> "Rotation":
        """Keep the first directions only."""
        return Rotation(np.ascontiguousarray(self.directions[:, :kept]), self.energy[:kept])


def fit_rotation(centred: Float32[np.ndarray, "n dim"], most: int) -> Rotation:
    """Principal directions of centred unit vectors, at most `most`.

    Where there are fewer vectors than directions wanted, random directions orthogonal to all of them follow, without
    energy: what is added to the catalog later may lie along them.
    """
    count, dim = centred.shape
    kept = min(most, dim)
    wide = centred.astype(np.float64)
    if count < dim:
        _, lengths, directions = np.linalg.svd(wide, full_matrices=False)
        values, directions = lengths**2, directions.T
    else:
        values, directions = eigh(wide.T @ wide, subset_by_index=(dim - kept, dim - 1))
        values, directions = np.clip(values[::-1], 0, None), directions[:, ::-1]
    energy = values / max((wide**2).sum(), np.finfo(np.float64).tiny)
    real = int(min(kept, (energy >= NO_ENERGY).sum()))
    energy = np.concatenate([energy[:real], np.zeros(kept - real)])
    return Rotation(_signed(_completed(directions[:, :real], kept)).astype(np.float32), energy.astype(np.float32))


def allot(energies: Sequence[Float32[np.ndarray, "_"]], room: Float32[np.ndarray, "blocks"], dim: int) -> list[int]:
    """Number of dimensions for each block, `dim` in all at most, so that the least energy times `room` is lost.

    Every block gets at least one. Directions without energy come last, shared out evenly. The blocks' weights have no
    say: a block that counts little beside the others must still be whole when it is asked alone.
    """
    wanted = [
        (float(factor * value), -place, block)
        for block, (energy, factor) in enumerate(zip(energies, room, strict=True))
        for place, value in enumerate(energy)
    ]
    first = [entry for entry in wanted if entry[1] == 0]
    rest = sorted((entry for entry in wanted if entry[1] != 0), reverse=True)
    counts = [0] * len(energies)
    for _, _, block in (first + rest)[:dim]:
        counts[block] += 1
    return counts


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Fix each direction's sign, which the eigensolver leaves open, by its largest entry."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)


def _completed(directions: np.ndarray, kept: int) -> np.ndarray:
    """Add random orthonormal directions until there are `kept`."""
    dim, real = directions.shape
    if real >= kept:
        return directions
    drawn = np.random.default_rng(0).normal(size=(dim, kept - real))
    for _ in range(2):  # once leaves rounding errors behind
        drawn -= directions @ (directions.T @ drawn)
    return np.concatenate([directions, np.linalg.qr(drawn)[0]], axis=1)
