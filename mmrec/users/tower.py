"""The tower: items and people in one space, learned from behaviour."""

import math

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mmrec.users.item_tower import ItemTower
from mmrec.users.sequence_tower import SequenceTower
from mmrec.users.tower_config import TowerConfig
from mmrec.users.whitening import Whitening

__all__ = ["Tower"]

_FIRST_SCALE = 12.0
_GREATEST_SCALE = 100.0


class Tower(nn.Module):
    """Both halves, and the temperature that turns inner products of their vectors into odds."""

    def __init__(self, config: TowerConfig, rows: Int64[Tensor, " known"], whitening: Whitening | None) -> None:
        super().__init__()
        self.config = config
        self.items = ItemTower(config, rows, whitening)
        self.people = SequenceTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    @property
    def scale(self) -> Tensor:
        """The inverse of the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=_GREATEST_SCALE)
