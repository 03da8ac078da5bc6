"""A batch in parts that fit into memory: the same ones however many processes share them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from mmrec.finetuning.samples import Samples
from mmrec.finetuning.towers import ContentTower
from mmrec.modality import Modality

__all__ = ["Part", "Parts"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Contents that are embedded at once.

    Attributes:
        modality: What they are.
        at: Where they are in the batch.
        places: Where they are in the corpus.

    """

    modality: Modality
    at: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Cuts batches up: contents of like cost together, as little of them is then padding.

    Attributes:
        towers: What embeds them.
        samples: Who knows their costs.
        cost: What a part may cost; 0 for what each tower says.
        least: Parts at the least, of each modality, where it has as many contents.

    """

    towers: Mapping[Modality, ContentTower]
    samples: Samples
    cost: int = 0
    least: int = 1

    def of(self, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> list[Part]:
        """Return all parts of a batch, the most costly contents of each modality first."""
        return [part for modality, places in contents.items() for part in self._cut(modality, places)]

    def _cut(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> list[Part]:
        costs = self.samples.costs(modality)[places]
        order = np.argsort(-costs, kind="stable")
        most = self.cost or self.towers[modality].batch_cost
        evenly = -(-len(places) // self.least)
        parts, start = [], 0
        while start < len(order):
            size = max(1, min(evenly, most // max(1, int(costs[order[start]]))))
            at = order[start : start + size]
            parts.append(Part(modality, at, places[at]))
            start += size
        return parts
