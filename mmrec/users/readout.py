"""From the Transformer's state to one or several vectors a person: what they do now, and what they always liked."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmrec.users.tower_config import TowerConfig

__all__ = ["Read", "Readout"]

_SHARPEST = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What is known of each person after each event.

    Attributes:
        vectors: Unit vectors.
        log_shares: Logarithm of each vector's share in the person.
        short: How much of each vector is owed to the short-term path, 0 to 1.

    """

    vectors: Float[Tensor, "b l m dim"]
    log_shares: Float[Tensor, "b l m"]
    short: Float[Tensor, "b l m"]


class Readout(nn.Module):
    """Mixes two unit vectors by a learned gate.

    The short-term path is the Transformer's state at the newest event. The long-term path is a weighted mean of the
    vectors of everything liked in the window, which no order and no newest event decides; each interest weighs by a
    query of its own. As both are unit vectors, the gate is the share.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.interests = config.interests
        self.short = nn.Linear(config.width, config.interests * config.dim)
        self.weigh = nn.Linear(config.width, config.interests)
        self.gate = nn.Linear(config.width, config.interests)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)
        self.share = nn.Linear(config.width, config.interests) if config.interests > 1 else None

    def forward(
        self, state: Float[Tensor, "b l width"], vectors: Float[Tensor, "b l dim"], liked: Bool[Tensor, "b l"]
    ) -> Read:
        """Read vectors out after each event."""
        batch, length, dim = vectors.shape
        short = self.short(state).view(batch, length, self.interests, dim)
        # Bounded, so that running sums need no maximum, which would be that of events to come.
        weights = torch.exp(_SHARPEST * torch.tanh(self.weigh(state) / _SHARPEST)) * liked.unsqueeze(2)
        long = (weights.unsqueeze(3) * vectors.unsqueeze(2)).cumsum(dim=1)
        gate = torch.sigmoid(self.gate(state))
        mixed = gate.unsqueeze(3) * _unit(short) + (1 - gate).unsqueeze(3) * _unit(long)
        shares = torch.zeros_like(gate) if self.share is None else torch.log_softmax(self.share(state), dim=2)
        return Read(_unit(mixed), shares, gate)


def _unit(vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
    return nn.functional.normalize(vectors, dim=-1)
