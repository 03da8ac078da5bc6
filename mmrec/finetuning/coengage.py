"""Co-engagement: items that the same users take one after the other attract each other.

**Gradient objective.** In each history the positive events are taken in order, and any two that are at most `window`
apart make a pair; only events before a cutoff and training items make pairs (`pairs_of`). Both sides of a batch of
pairs are embedded by content, an item being the mean direction of one content of each modality, and go into InfoNCE
or SigLIP. The items of pair j are no negatives to pair i where they share a content with those of pair i, are the
same items, or are known to be co-engaged. `correct` subtracts that share of log q(item) from an item's scores (logQ
correction; Yi et al. 2019, equation 3). `subsample` drops a side whose item has share f of all sides with probability
1 - sqrt(subsample / f) (Mikolov et al. 2013, arXiv 1310.4546, equation 5).

**Closed form.** Heads may be solved for instead, with PPMI co-occurrence embeddings as targets. Each event gives a
weight of one, in equal parts, to the other events of its user, so that long histories do not dominate. Of the
resulting matrix the positive pointwise mutual information is taken, with the context distribution smoothed by a power
of .75; its leading eigenvectors, without their eigenvalues, are the items' vectors (Levy, Goldberg and Dagan 2015,
section 3.3). The optimal critic of InfoNCE is this information (Oord et al. 2018, section 2.3, arXiv 1807.03748).
"""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import eigsh
from torch import Tensor

from mmrec.errors import UsageError
from mmrec.events.histories import Histories
from mmrec.finetuning.config import CoEngageConfig, FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import pair_loss
from mmrec.finetuning.objective import FinetuneObjective, Step, TowerVectors, draw


def symmetric(left: Int64[np.ndarray, " pairs"], right: Int64[np.ndarray, " pairs"], items: int) -> csr_matrix:
    """Return pairs of places of so many items as a boolean matrix; a pair may come many times, and either way round."""
    ones = np.ones(len(left), dtype=bool)
    one_way = csr_matrix((ones, (left, right)), shape=(items, items))
    return (one_way + one_way.T).tocsr()


def entries(
    matrix: csr_matrix, rows: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, "n m"]:
    """Return some rows and columns of a symmetric matrix, in the time that the emptier of the two sides decides."""
    counts = np.diff(matrix.indptr)
    if counts[columns].sum() < counts[rows].sum():
        return np.asarray(entries(matrix, columns, rows).T)
    unique, at = np.unique(rows, return_inverse=True)
    return np.asarray(matrix[unique][:, columns].toarray()[at])


_MICROSECONDS_PER_HOUR: Final = 3_600_000_000


def pairs_of(
    histories: Histories, positive: Bool[np.ndarray, " n"], config: CoEngageConfig
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Row numbers of both items of each pair of positive events, the earlier one first, and the place of the user."""
    places = np.flatnonzero(positive)
    owners, items, times = histories.owners[places], histories.items[places], histories.times[places]
    found = []
    for apart in range(1, config.window + 1):
        near = (owners[apart:] == owners[:-apart]) & (items[apart:] != items[:-apart])
        if config.hours is not None:
            near &= times[apart:] - times[:-apart] <= config.hours * _MICROSECONDS_PER_HOUR
        found.append(np.stack([items[:-apart][near], items[apart:][near], owners[apart:][near]]))
    left, right, users = np.concatenate(found, axis=1)
    return left, right, users


class CoEngage(FinetuneObjective):
    """Contrastive learning of co-engaged pairs; see the top of this file."""

    def __init__(
        self,
        corpus: Corpus,
        pairs: tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]],
        config: FinetuneConfig,
    ) -> None:
        """Train on pairs of places of items. Raises UsageError where there are fewer than two."""
        super().__init__(corpus, config, bias=config.loss == "siglip")
        self.left, self.right = pairs
        if len(self.left) < 2:
            raise UsageError("There is nothing to learn from: no user took two items one after the other.")
        size = len(corpus)
        self._known = symmetric(*pairs, size)
        drawn = np.bincount(np.concatenate(pairs), minlength=size)
        self._share = drawn / drawn.sum()

    def batches(self, random: np.random.Generator) -> list[Int64[np.ndarray, " _"]]:
        """Batches of numbers of pairs, of two at least."""
        order = random.permutation(self._kept(random))[: self.config.coengage.pairs]
        batches = np.array_split(order, max(1, -(-len(order) // self.config.batch)))
        return [np.sort(which) for which in batches if len(which) >= 2]

    def _kept(self, random: np.random.Generator) -> Int64[np.ndarray, " _"]:
        """Pairs that are left when frequent items are thinned out."""
        if not self.config.coengage.subsample:
            return np.arange(len(self.left))
        chance = np.sqrt(self.config.coengage.subsample / np.maximum(self._share, 1e-12))
        draws = random.random((2, len(self.left)))
        return np.flatnonzero((draws[0] < chance[self.left]) & (draws[1] < chance[self.right]))

    def step(self, batch: Int64[np.ndarray, " n"], random: np.random.Generator, progress: float) -> Step:
        """Draw a content of each modality of each item of the pairs."""
        left, right = self.left[batch], self.right[batch]
        drawn = draw(self.corpus, np.unique(np.concatenate([left, right])), random)
        at = [self.tensor(drawn.find(side)) for side in (left, right)]
        same = self.tensor(self._related(left, right))
        odds = [self.config.coengage.correct * np.log(self._share[side]) for side in (left, right)]
        log_odds = (self.tensor(odds[0].astype(np.float32)), self.tensor(odds[1].astype(np.float32)))

        def loss(vectors: TowerVectors) -> Tensor:
            placed = drawn.pooled(vectors)
            return pair_loss(placed[at[0]], placed[at[1]], self.temperature, same, log_odds=log_odds)

        return Step(drawn.contents, loss, len(batch), progress)

    def _related(self, left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, "n n"]:
        """Which pairs are no negatives to each other."""
        alike = self.corpus.share(left, left) | self.corpus.share(right, right) | self.corpus.share(left, right)
        alike |= entries(self._known, left, right)
        return np.asarray(alike | alike.T)


SMOOTHING: Final = 0.75
_DENSE: Final = 1_000
_NOTHING: Final = 1e-9


def co_occurrence(
    owners: Int64[np.ndarray, " events"],
    items: Int64[np.ndarray, " events"],
    times: Int64[np.ndarray, " events"],
    count: int,
    hours: float | None = None,
) -> csr_matrix:
    """Return the co-occurrence matrix of so many items: symmetric, with an empty diagonal.

    Events are given by the places of their users, ascending, and of their items, and by microseconds, ascending within
    a user; two of them may be `hours` apart, or any time where it is None.
    """
    mass = _all(owners, items, count) if hours is None else _near(owners, items, times, count, hours)
    mass = (mass + mass.T) / 2
    mass.setdiag(0)
    mass.eliminate_zeros()
    return mass.tocsr()


def ppmi_vectors(mass: csr_matrix, dim: int) -> Float64[np.ndarray, "items _"]:
    """Return PPMI embeddings of `dim` numbers, or of the matrix's rank; zero for items without co-occurrence.

    Raises UsageError where no items are taken together more often than by chance.
    """
    information = _information(mass)
    connected = np.flatnonzero(np.asarray(abs(information).sum(axis=1)).ravel())
    if not len(connected):
        raise UsageError(
            "There is nothing to learn from: no two items were taken by the same users more often than by chance."
        )
    own = information[connected][:, connected]
    if len(connected) <= max(_DENSE, 2 * dim):
        values, vectors = np.linalg.eigh(own.toarray())
    else:
        values, vectors = eigsh(own, k=dim, which="LA", v0=np.ones(len(connected)))
    best = np.argsort(-values)[:dim]
    best = best[values[best] > _NOTHING * values[best[0]]]
    placed = np.zeros((mass.shape[0], len(best)))
    placed[connected] = vectors[:, best]
    placed[np.linalg.norm(placed, axis=1) < _NOTHING] = 0
    return placed


def _all(owners: np.ndarray, items: np.ndarray, count: int) -> csr_matrix:
    unique, users = np.unique(owners, return_inverse=True)
    taken = csr_matrix((np.ones(len(items)), (users, items)), shape=(len(unique), count))
    others = np.maximum(np.bincount(users, minlength=len(unique)) - 1, 1)
    return (taken.T @ diags(1 / others) @ taken).tocsr()


def _near(owners: np.ndarray, items: np.ndarray, times: np.ndarray, count: int, hours: float) -> csr_matrix:
    earlier: list[np.ndarray] = []
    later: list[np.ndarray] = []
    for apart in range(1, len(owners)):
        close = (owners[apart:] == owners[:-apart]) & (times[apart:] - times[:-apart] <= hours * _MICROSECONDS_PER_HOUR)
        if not close.any():
            break
        earlier.append(np.flatnonzero(close))
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
    information = np.log(cells.data / taken[cells.row] / chance[cells.col]).clip(min=0)
    one_way = csr_matrix((information, (cells.row, cells.col)), shape=mass.shape)
    one_way.eliminate_zeros()
    return ((one_way + one_way.T) / 2).tocsr()
