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

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from indexers.recipes import build, default_spec
from mmrec.errors import UsageError
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import HardNegatives, pair_loss, supcon
from mmrec.finetuning.objective import ContentVectors, FinetuneObjective, Step, TowerVectors, draw
from mmrec.types import Modality
from mmrec.unit import unit

NegativeFilter = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Bool[np.ndarray, " n"]]
"""From anchors, and a candidate for each, to whether the candidate may be its negative."""

_DEPTH = 8
"""Neighbours looked at for each that is wanted."""
_AT_ONCE = 1024


def mine(
    anchors: tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n dim"]],
    partners: Float32[np.ndarray, " n"],
    candidates: tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, "m dim"]],
    may_be_negative: NegativeFilter,
    count: int,
    margin: float,
) -> Int64[np.ndarray, "n count"]:
    """Find `count` hard negatives of each anchor, the nearest first; -1 where there are no more.

    Anchors and candidates are items with a unit vector of each. A negative's similarity has to be `margin` below that
    of the anchor's partner.
    """
    items, vectors = candidates
    index = build(default_spec(len(items), vectors.shape[1], "ip"), items, vectors)
    depth = min(len(items), _DEPTH * count)
    found = np.full((len(anchors[0]), count), -1, dtype=np.int64)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        near = index.search(anchors[1][part], depth)
        own = np.broadcast_to(anchors[0][part, None], near.rows.shape)
        kept = (near.rows >= 0) & (near.scores <= partners[part, None] - margin)
        kept[kept] = may_be_negative(own[kept], near.rows[kept])
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


class Align(FinetuneObjective):
    """Contrastive alignment of the modalities of an item; see the top of this file."""

    def __init__(self, corpus: Corpus, items: Int64[np.ndarray, " n"], config: FinetuneConfig) -> None:
        """Train on some items of a corpus. Raises UsageError where no two of them have what a pair needs."""
        super().__init__(corpus, config, bias=config.loss == "siglip")
        self.items: dict[Pair, Int64[np.ndarray, " _"]] = {}
        for pair in config.align.pairs:
            both = items[corpus.have(*pair)[items]]
            if len(both) >= 2:
                self.items[pair] = both
        if not self.items:
            named = ", ".join(f"{one}-{other}" for one, other in config.align.pairs)
            raise UsageError(f"There is nothing to align: no two items have both of {named}.")

    def batches(self, random: np.random.Generator) -> list[tuple[Pair, Int64[np.ndarray, " _"]]]:
        """Batches of one pair of modalities each, those of all pairs mixed."""
        batches = [
            (pair, np.sort(part))
            for pair, items in self.items.items()
            for part in np.array_split(random.permutation(items), -(-len(items) // self.config.batch))
        ]
        return [batches[at] for at in random.permutation(len(batches)).tolist()]

    @property
    def uses_hard_negatives(self) -> bool:
        """Whether hard negatives are asked for."""
        return self.config.mining.count > 0

    def find_hard_negatives(self, vectors: ContentVectors) -> None:
        """Find each item's hard negatives, in both directions of each pair."""
        for pair, items in self.items.items():
            placed = [
                unit((self.corpus.contents[side].matrix @ vectors[side])[items].astype(np.float32)) for side in pair
            ]
            partners = np.einsum("nd,nd->n", *placed)
            for direction in (0, 1):
                found = mine(
                    (items, placed[direction]),
                    partners,
                    (items, placed[1 - direction]),
                    partial(self._may_be_negative, self._sharing(pair)),
                    self.config.mining.count * _KEPT,
                    self.config.mining.margin,
                )
                whole = np.full((len(self.corpus), found.shape[1]), -1, dtype=np.int64)
                whole[items] = found
                self.hard_negatives[_name(pair, direction)] = torch.from_numpy(whole)

    def _may_be_negative(
        self, shared: tuple[Modality, ...], some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        return ~self.corpus.share_each(some, others, shared)

    def _sharing(self, pair: Pair) -> tuple[Modality, ...]:
        return () if self.config.align.alike == "any" else pair

    def step(self, batch: tuple[Pair, Int64[np.ndarray, " n"]], random: np.random.Generator, progress: float) -> Step:
        """Draw a content of each side, and hard negatives."""
        pair, items = batch
        shared = self._sharing(pair)
        drawn = [self.corpus.contents[side].draw(items, random) for side in pair]
        same = self.tensor(self.corpus.share(items, items, shared))
        negatives = [self._negatives(pair, direction, items, random) for direction in (0, 1)]
        # The negatives of one direction are of the other side.
        wanted = [np.concatenate([drawn[0], negatives[1][1]]), np.concatenate([drawn[1], negatives[0][1]])]
        unique = [np.unique(side, return_inverse=True) for side in wanted]
        masks = [self.tensor(self.corpus.share(items, hard, shared)) for hard, _ in negatives]
        count = len(items)

        def loss(vectors: TowerVectors) -> Tensor:
            left, right = (vectors[side][self.tensor(at)] for side, (_, at) in zip(pair, unique, strict=True))
            hard = (HardNegatives(right[count:], masks[0]), HardNegatives(left[count:], masks[1]))
            return pair_loss(left[:count], right[:count], self.temperature, same, hard=hard)

        return Step({side: places for side, (places, _) in zip(pair, unique, strict=True)}, loss, count, progress)

    def _negatives(
        self, pair: Pair, direction: int, items: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " h"], Int64[np.ndarray, " h"]]:
        """Hard negatives drawn for some items, and a content of each."""
        mined = self.hard_negatives.get(_name(pair, direction))
        if mined is None:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        picked = random.permuted(mined.numpy()[items], axis=1)[:, : self.config.mining.count]
        hard = np.setdiff1d(picked[picked >= 0], items)
        return hard, self.corpus.contents[pair[1 - direction]].draw(hard, random)


def _name(pair: Pair, direction: int) -> str:
    return f"{pair[0]}-{pair[1]}.{direction}"


class Label(FinetuneObjective):
    """Supervised contrastive learning of a metadata column; see `mmrec.finetuning.losses.supcon`."""

    def __init__(
        self,
        corpus: Corpus,
        items: Int64[np.ndarray, " n"],
        labels: Int64[np.ndarray, " items"],
        config: FinetuneConfig,
    ) -> None:
        """Train on some items; `labels` numbers the values of all, -1 for none.

        Raises UsageError where fewer than two values have two items each.
        """
        super().__init__(corpus, config)
        self.labels = labels
        given = items[labels[items] >= 0]
        values, counts = np.unique(labels[given], return_counts=True)
        self.items = given[np.isin(labels[given], values[counts >= 2])]
        if (counts >= 2).sum() < 2:
            raise UsageError(
                f"column {config.label.column!r} has fewer than two values that two items have; name another one as "
                "label.column"
            )

    def batches(self, random: np.random.Generator) -> list[Int64[np.ndarray, " _"]]:
        """Batches of several groups each."""
        groups = self._groups(random)
        # No group is left over for a batch of its own: it would be pushed away from nothing.
        most = min(-(-len(self.items) // self.config.batch), len(groups) // 2)
        bounds = np.linspace(0, len(groups), most + 1).astype(int).tolist()
        return [np.sort(np.concatenate(groups[start:end])) for start, end in pairwise(bounds)]

    def _groups(self, random: np.random.Generator) -> list[np.ndarray]:
        """Items of one value, a few at a time; none alone."""
        groups: list[np.ndarray] = []
        for value in np.unique(self.labels[self.items]).tolist():
            own = random.permutation(self.items[self.labels[self.items] == value])
            groups += np.array_split(own, max(1, len(own) // self.config.label.each))
        return [groups[at] for at in random.permutation(len(groups)).tolist()]

    def step(self, batch: Int64[np.ndarray, " n"], random: np.random.Generator, progress: float) -> Step:
        """Draw a content of each modality of each item."""
        drawn = draw(self.corpus, batch, random)
        labels, same = self.tensor(self.labels[batch]), self.tensor(self.corpus.share(batch, batch))

        def loss(vectors: TowerVectors) -> Tensor:
            return supcon(drawn.pooled(vectors), labels, self.temperature.scale, same).mean()

        return Step(drawn.contents, loss, len(batch), progress)
