"""Label: items of one value of a metadata column attract each other, and all others are pushed away.

Method. An epoch goes through all items once: those of each value are shuffled and dealt into hands of `each` or a few
more, and the hands of all values are shuffled and shared out evenly over the batches. So every item has partners in its
batch, however many values there are. An item is the mean direction of one content of each modality; the loss is
`supcon`. Values that only one item has are left out: they have no partner to teach with.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Int64
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import Temperature, beside, supcon
from mmrec.finetuning.objective import ContentVectors, Step, TowerVectors
from mmrec.finetuning.pooling import draw

__all__ = ["Label"]


class Label:
    """The objective; see the top of this file."""

    mines = False

    def __init__(
        self,
        corpus: Corpus,
        items: Int64[np.ndarray, " n"],
        labels: Int64[np.ndarray, " items"],
        config: FinetuneConfig,
    ) -> None:
        """Learn from some items; `labels` numbers the values of all, -1 for none.

        Raises UsageError where fewer than two values have two items each.
        """
        self.corpus, self.labels, self.config = corpus, labels, config
        self.temperature = Temperature(config.scale)
        given = items[labels[items] >= 0]
        values, counts = np.unique(labels[given], return_counts=True)
        self.items = given[np.isin(labels[given], values[counts >= 2])]
        if (counts >= 2).sum() < 2:
            raise UsageError(
                f"column {config.label.column!r} has fewer than two values that two items have; name another one as "
                "label.column"
            )

    @property
    def module(self) -> nn.Module:
        """The temperature."""
        return self.temperature

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return float(self.temperature.scale.item())

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of an epoch."""
        random = np.random.default_rng([self.config.seed, epoch])
        hands = self._hands(random)
        # No hand is left over for a batch of its own: it would be pushed away from nothing.
        most = min(-(-len(self.items) // self.config.batch), len(hands) // 2)
        bounds = np.linspace(0, len(hands), most + 1).astype(int).tolist()
        for number, (start, end) in enumerate(pairwise(bounds)):
            yield self._step(np.sort(np.concatenate(hands[start:end])), random, number / most)

    def mine(self, vectors: ContentVectors) -> None:
        """Nothing: all values of a batch are each other's negatives."""

    @property
    def mined(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def load_mined(self, mined: Mapping[str, Tensor]) -> None:
        """Nothing."""

    def _hands(self, random: np.random.Generator) -> list[np.ndarray]:
        """Items of one value, a few at a time; none alone."""
        hands: list[np.ndarray] = []
        for value in np.unique(self.labels[self.items]).tolist():
            own = random.permutation(self.items[self.labels[self.items] == value])
            hands += np.array_split(own, max(1, len(own) // self.config.label.each))
        return [hands[at] for at in random.permutation(len(hands)).tolist()]

    def _step(self, items: Int64[np.ndarray, " n"], random: np.random.Generator, behind: float) -> Step:
        drawn = draw(self.corpus, items, random)
        weight = self.temperature.log_scale
        labels, same = beside(self.labels[items], weight), beside(self.corpus.share(items, items), weight)

        def loss(vectors: TowerVectors) -> Tensor:
            return supcon(drawn.pooled(vectors), labels, self.temperature.scale, same).mean()

        return Step(drawn.contents, loss, len(items), behind)
