"""What a step computes: from windows to the summed loss over the targets in them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mmrec.training.config import TrainingConfig
from mmrec.training.losses.full_softmax import full_softmax
from mmrec.training.losses.gbce import gbce, gbce_exponent
from mmrec.training.losses.sampled_softmax import sampled_softmax
from mmrec.training.windows import Batch
from mmrec.users.readout import Read
from mmrec.users.sequences import Sequences
from mmrec.users.tower import Tower

__all__ = ["Objective", "loss_name"]

_LARGEST_FULL = 50_000


def loss_name(config: TrainingConfig, items: int) -> str:
    """The loss that is used for so many items: what the configuration says, or by their number."""
    if config.loss != "auto":
        return config.loss
    return "full" if items <= _LARGEST_FULL else "sampled"


@dataclass(frozen=True, slots=True, eq=False)
class _Catalog:
    """The items of one step: all of them, or those that it meets or draws."""

    places: Int64[Tensor, " m"]
    vectors: Float[Tensor, "m dim"]
    drawn: Int64[Tensor, " k"] | None

    def find(self, places: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
        return places if self.drawn is None else torch.searchsorted(self.places, places)


class Objective(nn.Module):
    """A tower, the whitened contents of the items that training knows, and the loss.

    No other item is part of any loss: one that training has not seen would be pushed away merely for being new.
    """

    white: Float[Tensor, "m white"] | None
    odds: Float[Tensor, " m"]
    cumulated: Float[Tensor, " m"]

    def __init__(
        self,
        tower: Tower,
        white: Float[Tensor, "m white"] | None,
        counts: Int64[Tensor, " m"],
        config: TrainingConfig,
    ) -> None:
        super().__init__()
        self.tower, self.config = tower, config
        self.loss = loss_name(config, len(counts))
        self.register_buffer("white", white, persistent=False)
        # gBCE is made for even odds; the softmax learns most from what is popular, and corrects for it.
        odds = torch.ones(len(counts)) if self.loss == "gbce" else counts.clamp(min=1) ** 0.75
        self.register_buffer("odds", odds / odds.sum(), persistent=False)
        self.register_buffer("cumulated", (odds / odds.sum()).double().cumsum(0), persistent=False)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Sum of the losses of all targets."""
        catalog = self._catalog(batch)
        vectors = nn.functional.embedding(catalog.find(batch.items), catalog.vectors)
        read = self.tower.people(Sequences(vectors, batch.kinds, batch.liked, batch.times, batch.asked, batch.ratings))
        return self._losses(read, catalog, batch.targets, batch.targets >= 0).sum()

    def _catalog(self, batch: Batch) -> _Catalog:
        device, count = batch.items.device, len(self.tower.items.rows)
        if self.loss == "full":
            places, drawn = torch.arange(count, device=device), None
        else:
            draws = torch.rand(self.config.negatives, device=device, dtype=torch.float64)
            drawn = torch.searchsorted(self.cumulated, draws).clamp(max=count - 1)
            met = batch.targets[batch.targets >= 0]
            places = torch.unique(torch.cat([batch.items.reshape(-1), met, drawn]))
        dropped = torch.rand(len(places), device=device) < self.config.delta_drop
        white = None if self.white is None else self.white if drawn is None else self.white[places]
        return _Catalog(places, self.tower.items(white, places, dropped), drawn)

    def _losses(
        self, read: Read, catalog: _Catalog, targets: Int64[Tensor, "b l"], real: Bool[Tensor, "b l"]
    ) -> Float[Tensor, " n"]:
        people, shares, met = read.vectors[real], read.log_shares[real], targets[real]
        each = [self._loss(people[:, interest], catalog, met) for interest in range(people.shape[1])]
        if len(each) == 1:
            return each[0]
        # The odds of the item as a mixture of what each interest says.
        return -torch.logsumexp(shares - torch.stack(each, dim=1), dim=1)

    def _loss(self, people: Float[Tensor, "n dim"], catalog: _Catalog, met: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
        scale = self.tower.scale
        if catalog.drawn is None:
            return full_softmax(people, catalog.vectors, met, scale, self.config.smoothing)
        scaled = scale * people
        positive = (scaled * catalog.vectors[catalog.find(met)]).sum(dim=1)
        negative = scaled @ catalog.vectors[catalog.find(catalog.drawn)].T
        same = catalog.drawn.unsqueeze(0) == met.unsqueeze(1)
        if self.loss == "gbce":
            others = len(self.cumulated) - 1
            return gbce(positive, negative, same, gbce_exponent(len(catalog.drawn), others, self.config.calibration))
        expected = (self.odds[catalog.drawn] * len(catalog.drawn)).log()
        return sampled_softmax(positive, negative, expected, same)
