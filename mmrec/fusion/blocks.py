"""Blocks of a fused vector, one for each space: centring and rotation (PCA truncation, never whitened)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32

from mmrec.errors import UsageError
from mmrec.types import Modality, Space
from mmrec.unit import unit

APPROXIMATING_SHARE = 0.1
"""Share of a modality's weight that goes to its approximating space, if it has one.

Measured on the stamps (961 items, nearest neighbour of the same folder): images .801 without, .814 with .1, .803 with
.25, .778 with .5; all modalities together .891, .895, .897, .892.
"""


@dataclass(frozen=True, slots=True)
class Block:
    """The items' contents of one modality, as seen by one space.

    A joint model's space has one block per modality, so that a query can be restricted to some modalities and a score
    be split by modality.
    """

    space: Space
    modality: Modality

    @property
    def name(self) -> str:
        """Key of the block in files: ``space.modality``."""
        return f"{self.space.name}.{self.modality}"


def block_weights(blocks: Sequence[Block], by_modality: Mapping[Modality, float]) -> Float32[np.ndarray, " blocks"]:
    """Spread the modalities' weights over their blocks; they sum to one.

    Raises UsageError if a weight is negative or not finite, or if all are zero.
    """
    given = np.array([by_modality.get(block.modality, 1.0) for block in blocks], dtype=np.float64)
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        shown = ", ".join(f"{name}={value:g}" for name, value in by_modality.items())
        msg = f"modality weights must be finite, not negative and not all zero; got {shown}"
        raise UsageError(msg)
    shares = np.array([_share(block, blocks) for block in blocks])
    weights = given * shares
    return (weights / weights.sum()).astype(np.float32)


def _share(block: Block, blocks: Sequence[Block]) -> float:
    peers = [peer for peer in blocks if peer.modality == block.modality]
    approximating = [peer for peer in peers if peer.space.approximates]
    own = [peer for peer in peers if not peer.space.approximates]
    if not approximating or not own:
        return 1 / len(peers)
    return APPROXIMATING_SHARE / len(approximating) if block in approximating else (1 - APPROXIMATING_SHARE) / len(own)


NO_ENERGY = 1e-7
"""Below this share an eigenvalue of float32 vectors is rounding."""

PRIOR = 1e-6
"""Weight of the prior in `fit_rotation`: above the noise of float16, below the differences between contents."""

STEADY = 0.5
"""Least cosine between reference basis and kept directions, as a multiple of the usual one of random directions."""

MOST_DRAWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Orthonormal directions of a block, one per column; most variance first until `aligned`.

    `energy` is the share of the block's squared length along each principal direction, most first; all directions of
    the space sum to one.
    """

    directions: Float32[np.ndarray, "dim kept"]
    energy: Float32[np.ndarray, " kept"]

    def truncated(self, kept: int) -> "Rotation":
        """Keep the first directions only."""
        return Rotation(np.ascontiguousarray(self.directions[:, :kept]), self.energy[:kept])


def fit_rotation(centred: Float32[np.ndarray, "n dim"], most: int) -> Rotation:
    """Principal directions of centred unit vectors, at most `most`.

    A faint prior decides where the vectors do not: of fewer vectors than directions wanted, and among directions that
    hold next to nothing. What is added to the catalog later may lie along them.
    """
    from scipy.linalg import eigh  # noqa: PLC0415 - only fitting needs it, and every query opens a fusion

    dim = centred.shape[1]
    kept = min(most, dim)
    wide = centred.astype(np.float64)
    spread = wide.T @ wide
    total = max(float(np.trace(spread)), np.finfo(np.float64).tiny)
    basis = _reference_basis(dim)
    prior = (basis * np.geomspace(1, 0.01, dim)) @ basis.T
    _, directions = eigh(spread / total + PRIOR * prior, subset_by_index=(dim - kept, dim - 1))
    directions = directions[:, ::-1]
    energy = np.einsum("dk,dk->k", directions, spread @ directions) / total
    energy[energy < NO_ENERGY] = 0
    return Rotation(directions.astype(np.float32), energy.astype(np.float32))


def aligned(rotation: Rotation) -> Rotation:
    """Other axes for the same kept directions: those nearest to a fixed reference basis (orthogonal Procrustes).

    Principal directions of like energy turn into each other, or change sign, with the last digit of a vector; what
    they span together does not. So two stores with the same contents get the same item vectors, whatever the batches
    their contents were encoded in. Energy comes to lie evenly over the axes, which suits quantisers.
    """
    directions = rotation.directions.astype(np.float64)
    dim, kept = directions.shape
    enough = STEADY / np.sqrt(kept * dim)
    best: tuple[float, np.ndarray] = (-1.0, directions)
    for draw in range(MOST_DRAWS):
        columns = np.random.default_rng(draw).permutation(dim)[:kept] if draw else np.arange(kept)
        left, lengths, right = np.linalg.svd(directions.T @ _reference_basis(dim)[:, columns])
        if lengths[-1] > best[0]:
            best = (float(lengths[-1]), directions @ left @ right)
        # A basis nearly at right angles to a kept direction would magnify the noise along it.
        if lengths[-1] >= enough:
            break
    return Rotation(best[1].astype(np.float32), rotation.energy)


def allocate_dimensions(
    energies: Sequence[Float32[np.ndarray, " _"]], factors: Float32[np.ndarray, " blocks"], dim: int
) -> list[int]:
    """Number of dimensions for each block, `dim` in all at most, so that the least energy times `factors` is lost.

    Every block gets at least one. Directions without energy come last, shared out evenly. The blocks' weights are
    ignored: a block must keep its accuracy when it is the only one searched.
    """
    wanted = [
        (rank == 0, float(factor * value) if rank else 0.0, -rank, block if rank else -block)
        for block, (energy, factor) in enumerate(zip(energies, factors, strict=True))
        for rank, value in enumerate(energy)
    ]
    chosen = [abs(block) for *_, block in sorted(wanted, reverse=True)[:dim]]
    return [chosen.count(block) for block in range(len(energies))]


@cache
def _reference_basis(dim: int) -> np.ndarray:
    """Orthonormal directions drawn at random, once for all."""
    drawn, upper = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    return drawn * np.sign(np.diag(upper))


PRIOR_COUNT = 10
"""Contents' worth of belief that the mean is zero, so that a catalog of a few items is not centred into nothing."""


def shrunken_mean(vectors: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, " dim"]:
    """Mean of unit vectors, shrunk towards zero as if `PRIOR_COUNT` zero vectors had been seen too."""
    total = vectors.sum(axis=0, dtype=np.float64)
    return (total / (len(vectors) + PRIOR_COUNT)).astype(np.float32)


def centre(vectors: Float32[np.ndarray, "n dim"], mean: Float32[np.ndarray, " dim"]) -> Float32[np.ndarray, "n dim"]:
    """Subtract the mean and make unit vectors."""
    return unit(vectors - mean)
