"""Which items the same people take, as a matrix and, in closed form, as vectors.

Each event gives a weight of one, in equal parts, to the other events of its person: long histories say no more of a
pair than short ones say of theirs. Of that matrix the positive pointwise mutual information is taken, the chance of the
other item smoothed by a power of .75, and its leading eigenvectors are the items' vectors. Where InfoNCE is trained on
such pairs without end, its best scores are this information (Oord et al., 2018, section 2.3, arXiv 1807.03748); a
factorisation gets there at once. Eigenvalues are left out: all directions count alike (Levy, Goldberg and Dagan, 2015,
section 3.3, find the same of words).
"""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import eigsh

from mmrec.errors import UsageError

__all__ = ["engagement", "engagement_vectors"]

SMOOTHING: Final = 0.75
_HOUR: Final = 3_600_000_000
_DENSE: Final = 1_000
_NOTHING: Final = 1e-9


def engagement(
    owners: Int64[np.ndarray, " events"],
    items: Int64[np.ndarray, " events"],
    times: Int64[np.ndarray, " events"],
    count: int,
    hours: float | None = None,
) -> csr_matrix:
    """Items by items: how much each is taken by who takes the other; symmetric, with nothing on its diagonal.

    Args:
        owners: Place of the person of each event, ascending.
        items: Place of its item.
        times: Microseconds, ascending within a person.
        count: Number of items.
        hours: Hours that two events may be apart; None for any time.

    """
    mass = _all(owners, items, count) if hours is None else _near(owners, items, times, count, hours)
    mass = (mass + mass.T) / 2
    mass.setdiag(0)
    mass.eliminate_zeros()
    return mass.tocsr()


def engagement_vectors(mass: csr_matrix, dim: int) -> Float64[np.ndarray, "items _"]:
    """Vectors of `dim` numbers, or as many as the matrix has to say; zero for items that nobody takes beside others.

    Raises UsageError where no items are taken together more often than by chance.
    """
    information = _information(mass)
    met = np.flatnonzero(np.asarray(abs(information).sum(axis=1)).ravel())
    if not len(met):
        raise UsageError(
            "There is nothing to learn from: no two items were taken by the same people more often than by chance."
        )
    own = information[met][:, met]
    if len(met) <= max(_DENSE, 2 * dim):
        values, vectors = np.linalg.eigh(own.toarray())
    else:
        values, vectors = eigsh(own, k=dim, which="LA", v0=np.ones(len(met)))
    best = np.argsort(-values)[:dim]
    best = best[values[best] > _NOTHING * values[best[0]]]
    placed = np.zeros((mass.shape[0], len(best)))
    placed[met] = vectors[:, best]
    placed[np.linalg.norm(placed, axis=1) < _NOTHING] = 0
    return placed


def _all(owners: np.ndarray, items: np.ndarray, count: int) -> csr_matrix:
    people, persons = np.unique(owners, return_inverse=True)
    taken = csr_matrix((np.ones(len(items)), (persons, items)), shape=(len(people), count))
    others = np.maximum(np.bincount(persons, minlength=len(people)) - 1, 1)
    return (taken.T @ diags(1 / others) @ taken).tocsr()


def _near(owners: np.ndarray, items: np.ndarray, times: np.ndarray, count: int, hours: float) -> csr_matrix:
    earlier: list[np.ndarray] = []
    later: list[np.ndarray] = []
    for apart in range(1, len(owners)):
        met = (owners[apart:] == owners[:-apart]) & (times[apart:] - times[:-apart] <= hours * _HOUR)
        if not met.any():
            break
        earlier.append(np.flatnonzero(met))
        later.append(earlier[-1] + apart)
    one, other = (np.concatenate([np.empty(0, dtype=np.int64), *side]) for side in (earlier, later))
    others = np.bincount(np.concatenate([one, other]), minlength=len(owners))
    given = np.concatenate([1 / others[one], 1 / others[other]])
    both = (np.concatenate([items[one], items[other]]), np.concatenate([items[other], items[one]]))
    return coo_matrix((given, both), shape=(count, count)).tocsr()


def _information(mass: csr_matrix) -> csr_matrix:
    """Positive pointwise mutual information, made symmetric."""
    taken = np.asarray(mass.sum(axis=1)).ravel()
    chance = taken**SMOOTHING
    chance /= max(chance.sum(), _NOTHING)
    cells = mass.tocoo()
    told = np.log(cells.data / taken[cells.row] / chance[cells.col]).clip(min=0)
    one_way = csr_matrix((told, (cells.row, cells.col)), shape=mass.shape)
    one_way.eliminate_zeros()
    return ((one_way + one_way.T) / 2).tocsr()
