"""Losses of the user tower (full softmax, sampled softmax with logQ correction, gBCE) and its objective."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mmrec.training.config import TrainingConfig
from mmrec.training.windows import Batch
from mmrec.users.networks import EventInterests
from mmrec.users.tower import Tower


def full_softmax(
    users: Float[Tensor, "n dim"],
    items: Float[Tensor, "m dim"],
    targets: Int64[Tensor, " n"],
    scale: Float[Tensor, ""],
    smoothing: float = 0.0,
) -> Float[Tensor, " n"]:
    """Cross entropy of each target: ``-log softmax(scale * users @ items.T)[target]``, with label smoothing.

    Users and items are unit vectors, the latter of items seen in training: with others, training would learn to push
    new items away.
    """
    logits = (scale * users) @ items.T
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def gbce_exponent(drawn: int, others: int, calibration: float) -> float:
    """Exponent of the positive's probability: ``a (t (1 - 1/a) + 1/a)`` with ``a = drawn / others``.

    1, plain binary cross entropy, for a calibration t of 0; the sampling rate itself for 1 (Petrov and Macdonald, 2023,
    equation 17).
    """
    rate = min(1.0, drawn / max(1, others))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def gbce(
    positive: Float[Tensor, " n"], negative: Float[Tensor, "n k"], same: Bool[Tensor, "n k"], exponent: float
) -> Float[Tensor, " n"]:
    """Return ``-exponent log sigmoid(positive) - sum log(1 - sigmoid(negative))`` for each target.

    Items are sampled uniformly, and do not count where they are the target itself (`same`).
    """
    wrong = torch.nn.functional.softplus(negative).masked_fill(same, 0).sum(dim=1)
    return exponent * torch.nn.functional.softplus(-positive) + wrong


def sampled_softmax(
    positive: Float[Tensor, " n"],
    negative: Float[Tensor, "n k"],
    log_expected: Float[Tensor, " k"],
    same: Bool[Tensor, "n k"],
) -> Float[Tensor, " n"]:
    """Cross entropy of each target against sampled items, corrected by how often each is drawn (logQ).

    ``exp(negative - log_expected)`` summed over the sample has the sum over all other items as its expectation, so the
    loss tends to the full softmax as more are drawn (Bengio and Senecal, 2008; Yi et al., 2019, equation 3).
    `log_expected` is the logarithm of how often each sampled item is expected; one that is the target itself (`same`)
    counts once, as the target.
    """
    corrected = (negative - log_expected).masked_fill(same, -torch.inf)
    return torch.logsumexp(torch.cat([positive.unsqueeze(1), corrected], dim=1), dim=1) - positive


_LARGEST_FULL = 50_000


def loss_name(config: TrainingConfig, items: int) -> str:
    """The configured loss, or that for the number of items."""
    if config.loss != "auto":
        return config.loss
    return "full" if items <= _LARGEST_FULL else "sampled"


@dataclass(frozen=True, slots=True, eq=False)
class _Catalog:
    """The items of one step: all of them, or those of its batch and sample."""

    places: Int64[Tensor, " m"]
    vectors: Float[Tensor, "m dim"]
    drawn: Int64[Tensor, " k"] | None

    def find(self, places: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
        return places if self.drawn is None else torch.searchsorted(self.places, places)


class TowerObjective(nn.Module):
    """A tower, the whitened contents of the items seen in training, and the loss; no other item is part of it."""

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
        # gBCE wants uniform sampling; the softmax learns most from popular items, and corrects for it.
        odds = torch.ones(len(counts)) if self.loss == "gbce" else counts.clamp(min=1) ** 0.75
        self.register_buffer("odds", odds / odds.sum(), persistent=False)
        self.register_buffer("cumulated", (odds / odds.sum()).double().cumsum(0), persistent=False)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Sum of the losses of all targets."""
        catalog = self._catalog(batch)
        read = self.tower.people(replace(batch, items=catalog.find(batch.items)).sequences(catalog.vectors))
        return self._losses(read, catalog, batch.targets, batch.targets >= 0).sum()

    def _catalog(self, batch: Batch) -> _Catalog:
        device, count = batch.items.device, len(self.tower.items.rows)
        if self.loss == "full":
            places, drawn = torch.arange(count, device=device), None
        else:
            draws = torch.rand(self.config.negatives, device=device, dtype=torch.float64)
            drawn = torch.searchsorted(self.cumulated, draws).clamp(max=count - 1)
            targets = batch.targets[batch.targets >= 0]
            places = torch.unique(torch.cat([batch.items.reshape(-1), targets, drawn]))
        dropped = torch.rand(len(places), device=device) < self.config.delta_drop
        white = None if self.white is None else self.white if drawn is None else self.white[places]
        return _Catalog(places, self.tower.items(white, places, dropped), drawn)

    def _losses(
        self, read: EventInterests, catalog: _Catalog, targets: Int64[Tensor, "b l"], real: Bool[Tensor, "b l"]
    ) -> Float[Tensor, " n"]:
        users, shares, wanted = read.vectors[real], read.log_shares[real], targets[real]
        each = [self._loss(users[:, interest], catalog, wanted) for interest in range(users.shape[1])]
        if len(each) == 1:
            return each[0]
        # The odds of the item as a mixture of what each interest says.
        return -torch.logsumexp(shares - torch.stack(each, dim=1), dim=1)

    def _loss(
        self, users: Float[Tensor, "n dim"], catalog: _Catalog, targets: Int64[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        scale = self.tower.scale
        if catalog.drawn is None:
            return full_softmax(users, catalog.vectors, targets, scale, self.config.smoothing)
        scaled = scale * users
        positive = (scaled * catalog.vectors[catalog.find(targets)]).sum(dim=1)
        negative = scaled @ catalog.vectors[catalog.find(catalog.drawn)].T
        same = catalog.drawn.unsqueeze(0) == targets.unsqueeze(1)
        if self.loss == "gbce":
            others = len(self.cumulated) - 1
            return gbce(positive, negative, same, gbce_exponent(len(catalog.drawn), others, self.config.calibration))
        expected = (self.odds[catalog.drawn] * len(catalog.drawn)).log()
        return sampled_softmax(positive, negative, expected, same)
