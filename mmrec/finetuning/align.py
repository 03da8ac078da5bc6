"""Align the modalities of an item by contrastive learning, so that a text finds its image and audio.

For each pair of modalities (text-image, text-audio, image-audio), the items that have both are visited once an epoch,
in batches of one pair each; the batches of all pairs are mixed. With mixed batches most items would have no audio,
and those that do would have few negatives. Of an item with several contents of a modality one is drawn each time. The
two sides of a batch go into InfoNCE or SigLIP; items that share a content on either side are not each other's
negatives.

**Hard negatives**, if configured: every few epochs all training items are embedded with the current weights, and the
nearest non-matching items of each item and direction are kept. A step draws the configured number of them for each of
its items and shares them over the batch.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from indexers.recipes import build, default_spec
from mmrec.errors import UsageError
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import Hard, PairLoss, Temperature, beside, supcon
from mmrec.finetuning.objective import ContentVectors, Step, TowerVectors, draw
from mmrec.types import Modality
from mmrec.unit import unit

NegativeFilter = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Bool[np.ndarray, " n"]]
"""From items that ask, and a candidate for each, to whether it may be held against it."""

_DEPTH = 8
"""Neighbours looked at for each that is wanted."""
_AT_ONCE = 1024


def mine(
    asking: tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n dim"]],
    partners: Float32[np.ndarray, " n"],
    among: tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m dim"]],
    strangers: NegativeFilter,
    count: int,
    margin: float,
) -> Int64[np.ndarray, "n count"]:
    """Find the nearest strangers of each item that asks, the nearest first; -1 where there are no more.

    Args:
        asking: Items, and a unit vector of each.
        partners: Similarity of each with its partner.
        among: Items to look among, each once, and a unit vector of each.
        strangers: Which candidates may be taken.
        count: How many are wanted.
        margin: How much less like than the partner a stranger has to be.

    """
    items, vectors = among
    index = build(default_spec(len(items), vectors.shape[1], "ip"), items, vectors)
    depth = min(len(items), _DEPTH * count)
    found = np.full((len(asking[0]), count), -1, dtype=np.int64)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        near = index.search(asking[1][part], depth)
        own = np.broadcast_to(asking[0][part, None], near.rows.shape)
        kept = (near.rows >= 0) & (near.scores <= partners[part, None] - margin)
        kept[kept] = strangers(own[kept], near.rows[kept])
        found[part] = _first(near.rows, kept, count)
    return found


def _first(rows: Int64[np.ndarray, "n k"], kept: Bool[np.ndarray, "n k"], count: int) -> Int64[np.ndarray, "n count"]:
    """The first `count` of each line that are kept."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, :count]
    first = np.take_along_axis(np.where(kept, rows, -1), order, axis=1)
    return np.pad(first, ((0, 0), (0, count - first.shape[1])), constant_values=-1)


Pair = tuple[Modality, Modality]
_KEPT = 4
"""Hard negatives kept for each that a step draws."""


class Align:
    """The objective; see the top of this file."""

    def __init__(self, corpus: Corpus, items: Int64[np.ndarray, " n"], config: FinetuneConfig) -> None:
        """Learn from some items of a corpus. Raises UsageError where no two of them have what a pair needs."""
        self.corpus, self.config = corpus, config
        self.module = PairLoss(config)
        self.items: dict[Pair, Int64[np.ndarray, " _"]] = {}
        for pair in config.align.pairs:
            both = items[corpus.have(*pair)[items]]
            if len(both) >= 2:
                self.items[pair] = both
        self._mined: dict[tuple[Pair, int], Int64[np.ndarray, "items kept"]] = {}
        if not self.items:
            named = ", ".join(f"{one}-{other}" for one, other in config.align.pairs)
            raise UsageError(f"There is nothing to align: no two items have both of {named}.")

    @property
    def scale(self) -> float:
        """The inverse temperature as it is now."""
        return self.module.scale

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the batches of an epoch, those of all pairs mixed."""
        random = np.random.default_rng([self.config.seed, epoch])
        batches = [
            (pair, np.sort(part))
            for pair, items in self.items.items()
            for part in np.array_split(random.permutation(items), -(-len(items) // self.config.batch))
        ]
        for number, at in enumerate(random.permutation(len(batches)).tolist()):
            pair, items = batches[at]
            yield self._step(pair, items, random, number / len(batches))

    @property
    def mines(self) -> bool:
        """Whether hard negatives are asked for."""
        return self.config.mining.count > 0

    def mine(self, vectors: ContentVectors) -> None:
        """Find each item's nearest strangers, in both directions of each pair."""
        for pair, items in self.items.items():
            placed = [unit((self.corpus.matrix(side) @ vectors[side])[items].astype(np.float32)) for side in pair]
            partners = np.einsum("nd,nd->n", *placed)
            for direction in (0, 1):
                found = mine(
                    (items, placed[direction]),
                    partners,
                    (items, placed[1 - direction]),
                    self._strangers(pair),
                    self.config.mining.count * _KEPT,
                    self.config.mining.margin,
                )
                whole = np.full((len(self.corpus), found.shape[1]), -1, dtype=np.int64)
                whole[items] = found
                self._mined[pair, direction] = whole

    @property
    def mined(self) -> Mapping[str, Tensor]:
        """Items that were mined, by pair and direction."""
        return {f"{one}-{other}.{way}": torch.from_numpy(found) for ((one, other), way), found in self._mined.items()}

    def load_mined(self, mined: Mapping[str, Tensor]) -> None:
        """Go on with what was mined before."""
        for pair in self.items:
            for way in (0, 1):
                name = f"{pair[0]}-{pair[1]}.{way}"
                if name in mined:
                    self._mined[pair, way] = mined[name].numpy()

    def _strangers(self, pair: Pair) -> NegativeFilter:
        shared = self._sharing(pair)
        return lambda some, others: ~self.corpus.share_each(some, others, shared)

    def _sharing(self, pair: Pair) -> tuple[Modality, ...]:
        return () if self.config.align.alike == "any" else pair

    def _step(self, pair: Pair, items: Int64[np.ndarray, " n"], random: np.random.Generator, behind: float) -> Step:
        shared = self._sharing(pair)
        drawn = [self.corpus.contents[side].drawn(items, random) for side in pair]
        same = self.module.tensor(self.corpus.share(items, items, shared))
        further = [self._hard(pair, way, items, random) for way in (0, 1)]
        # What is refused in one direction is of the other side.
        wanted = [np.concatenate([drawn[0], further[1][1]]), np.concatenate([drawn[1], further[0][1]])]
        met = [np.unique(side, return_inverse=True) for side in wanted]
        masks = [self.module.tensor(self.corpus.share(items, hard, shared)) for hard, _ in further]
        count = len(items)

        def loss(vectors: TowerVectors) -> Tensor:
            left, right = (vectors[side][self.module.tensor(at)] for side, (_, at) in zip(pair, met, strict=True))
            hard = (Hard(right[count:], masks[0]), Hard(left[count:], masks[1]))
            return self.module(left[:count], right[:count], same, hard)

        return Step({side: places for side, (places, _) in zip(pair, met, strict=True)}, loss, count, behind)

    def _hard(
        self, pair: Pair, way: int, items: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " h"], Int64[np.ndarray, " h"]]:
        """Mined items for some that ask, and a content of each."""
        if (pair, way) not in self._mined:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        found = self._mined[pair, way][items]
        picked = random.permuted(found, axis=1)[:, : self.config.mining.count]
        hard = np.setdiff1d(picked[picked >= 0], items)
        return hard, self.corpus.contents[pair[1 - way]].drawn(hard, random)


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
