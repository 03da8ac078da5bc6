"""Co-engage: items that the same people take one after the other attract each other, so that contents learn taste.

Method. Of each history, the events that speak for their item are taken in order, and any two that are at most `window`
apart make a pair. Only events before a cutoff, and only items that are learned from, make pairs: see `pairs_of`. Both
sides of a batch of pairs are placed by their contents, an item being the mean direction of one content of each
modality, and go into `infonce` or `siglip`. No negatives to pair i are the items of pair j where they share a content
with those of pair i, are the same items, or are known to go together.

Popularity. An item is drawn as a side of a pair as often as people take it. `correct` subtracts that share of
log q(item) from its scores (logQ; Yi et al., 2019, equation 3), so that the popular are not pushed away merely for
being everywhere. `subsample` drops a side whose item has share f of all sides with probability 1 - sqrt(subsample / f),
as word2vec does with frequent words (Mikolov et al., 2013, arXiv 1310.4546, equation 5).

Heads in closed form need no batches: `mmrec.finetuning.engagement` says where they are taken to.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from mmrec.behaviour.histories import Histories
from mmrec.errors import UsageError
from mmrec.finetuning.companions import Companions
from mmrec.finetuning.config import CoEngageConfig, FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors, Step, TowerVectors
from mmrec.finetuning.pair_loss import PairLoss
from mmrec.finetuning.pooling import draw

__all__ = ["CoEngage", "pairs_of"]

_HOUR = 3_600_000_000


def pairs_of(
    histories: Histories, speaking: Bool[np.ndarray, " n"], config: CoEngageConfig
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Row numbers of both items of each pair, the earlier one first, and the place of the person.

    Args:
        histories: What people did.
        speaking: Which events speak for their item.
        config: How far two events may be apart.

    """
    places = np.flatnonzero(speaking)
    owners, items, times = histories.owners[places], histories.items[places], histories.times[places]
    found = []
    for apart in range(1, config.window + 1):
        near = (owners[apart:] == owners[:-apart]) & (items[apart:] != items[:-apart])
        if config.hours is not None:
            near &= times[apart:] - times[:-apart] <= config.hours * _HOUR
        found.append(np.stack([items[:-apart][near], items[apart:][near], owners[apart:][near]]))
    left, right, people = np.concatenate(found, axis=1)
    return left, right, people


class CoEngage:
    """The objective; see the top of this file."""

    mines = False

    def __init__(
        self,
        corpus: Corpus,
        pairs: tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]],
        config: FinetuneConfig,
    ) -> None:
        """Learn from pairs of places of items. Raises UsageError where there are fewer than two."""
        self.corpus, self.config = corpus, config
        self.module = PairLoss(config)
        self.left, self.right = pairs
        if len(self.left) < 2:
            raise UsageError("There is nothing to learn from: no two items were taken one after the other by anyone.")
        size = len(corpus)
        self._known = Companions.of(*pairs, size)
        drawn = np.bincount(np.concatenate(pairs), minlength=size)
        self._share = drawn / drawn.sum()

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return self.module.scale

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of an epoch."""
        random = np.random.default_rng([self.config.seed, epoch])
        order = random.permutation(self._kept(random))[: self.config.coengage.pairs]
        batches = np.array_split(order, max(1, -(-len(order) // self.config.batch)))
        for number, which in enumerate(batches):
            if len(which) >= 2:
                yield self._step(np.sort(which), random, number / len(batches))

    def mine(self, vectors: ContentVectors) -> None:
        """Nothing: the other pairs of a batch are drawn by popularity, which makes them hard enough."""

    @property
    def mined(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def bring_back(self, mined: Mapping[str, Tensor]) -> None:
        """Nothing."""

    def _kept(self, random: np.random.Generator) -> Int64[np.ndarray, " _"]:
        """Pairs that are left when frequent items are thinned out."""
        if not self.config.coengage.subsample:
            return np.arange(len(self.left))
        chance = np.sqrt(self.config.coengage.subsample / np.maximum(self._share, 1e-12))
        draws = random.random((2, len(self.left)))
        return np.flatnonzero((draws[0] < chance[self.left]) & (draws[1] < chance[self.right]))

    def _step(self, which: Int64[np.ndarray, " n"], random: np.random.Generator, behind: float) -> Step:
        left, right = self.left[which], self.right[which]
        drawn = draw(self.corpus, np.unique(np.concatenate([left, right])), random)
        at = [self.module.tensor(drawn.find(side)) for side in (left, right)]
        same = self.module.tensor(self._related(left, right))
        odds = [self.config.coengage.correct * np.log(self._share[side]) for side in (left, right)]
        log_odds = (self.module.tensor(odds[0].astype(np.float32)), self.module.tensor(odds[1].astype(np.float32)))

        def loss(vectors: TowerVectors) -> Tensor:
            placed = drawn.pooled(vectors)
            return self.module(placed[at[0]], placed[at[1]], same, log_odds=log_odds)

        return Step(drawn.contents, loss, len(which), behind)

    def _related(self, left: Int64[np.ndarray, " n"], right: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, "n n"]:
        """Which pairs are no strangers to each other."""
        alike = self.corpus.share(left, left) | self.corpus.share(right, right) | self.corpus.share(left, right)
        alike |= self._known.among(left, right)
        return np.asarray(alike | alike.T)
