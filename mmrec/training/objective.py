"""What a step computes: from windows to the mean loss over the targets in them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mmrec.training.config import TrainingConfig
from mmrec.training.losses.full_softmax import full_softmax
from mmrec.training.windows import Batch
from mmrec.users.readout import Read
from mmrec.users.sequences import Sequences
from mmrec.users.tower import Tower

__all__ = ["Objective"]


class Objective(nn.Module):
    """A tower, its items' whitened contents, and the loss."""

    def __init__(self, tower: Tower, white: Float[Tensor, "m white"] | None, config: TrainingConfig) -> None:
        super().__init__()
        self.tower, self.config = tower, config
        self.register_buffer("white", white, persistent=False)

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """Sum of the losses of all targets."""
        count = len(self.tower.items.rows)
        device = batch.items.device
        dropped = torch.rand(count, device=device) < self.config.delta_drop
        items = self.tower.items(self.white, torch.arange(count, device=device), dropped)
        vectors = nn.functional.embedding(batch.items, items)
        read = self.tower.people(Sequences(vectors, batch.kinds, batch.liked, batch.times, batch.asked))
        real = batch.targets >= 0
        return self._losses(read, items, batch.targets[real], real).sum()

    def _losses(
        self, read: Read, items: Float[Tensor, "m dim"], targets: Int64[Tensor, "n"], real: Tensor
    ) -> Float[Tensor, "n"]:
        people, shares = read.vectors[real], read.log_shares[real]
        each = torch.stack(
            [
                full_softmax(people[:, interest], items, targets, self.tower.scale, self.config.smoothing)
                for interest in range(people.shape[1])
            ],
            dim=1,
        )
        return -torch.logsumexp(shares - each, dim=1)
