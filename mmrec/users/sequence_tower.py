"""People as unit vectors: a causal Transformer over the vectors of the items that they met."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mmrec.users.dropout import Dropout
from mmrec.users.rating_levels import RATING_LEVELS
from mmrec.users.readout import Read, Readout
from mmrec.users.sequences import Sequences
from mmrec.users.spread import spread
from mmrec.users.time_buckets import TIME_BUCKETS, time_buckets
from mmrec.users.tower_config import TowerConfig

__all__ = ["SequenceTower"]


class SequenceTower(nn.Module):
    """Pre-norm causal Transformer with learned positions, event kinds and a bias by the time between two events.

    SASRec's shape (Kang and McAuley, 2018); the bias by buckets of log time is that of HSTU (Zhai et al., 2024).
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Linear(config.dim, width)
        self.positions = nn.Parameter(torch.randn(config.window, width) * 0.02)
        self.kinds = nn.Embedding(len(config.kinds) + 1, width)
        self.gaps = nn.Embedding(TIME_BUCKETS, width) if config.ask_time else None
        self.ratings = _neutral(RATING_LEVELS, width) if config.ratings else None
        for table in (self.kinds, self.gaps):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.spans = nn.Parameter(torch.zeros(config.heads, TIME_BUCKETS)) if config.spans else None
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(config)

    def forward(self, batch: Sequences) -> Read:
        """Return what is known of each person after each of their events; at most `window` of them."""
        length = batch.vectors.shape[1]
        # Unit vectors have small parts; the Transformer wants those of about 1.
        entered = self.enter(batch.vectors * self.config.dim**0.5)
        state = entered + self.positions[:length] + self.kinds(batch.kinds)
        if self.gaps is not None:
            state = state + self.gaps(time_buckets(batch.asked - batch.times))
        if self.ratings is not None:
            state = state + self.ratings(batch.ratings)
        state = self.drop(state)
        bias = self._bias(batch.times)
        for block in self.blocks:
            state = block(state, bias)
        return self.readout(self.norm(state), batch.vectors, batch.liked)

    def _bias(self, times: Int64[Tensor, "b l"]) -> Float[Tensor, "b heads l l"]:
        """What is added to attention: by the time between the two events, and -inf for later events."""
        batch, length = times.shape
        later = torch.ones(length, length, dtype=torch.bool, device=times.device).triu(1)
        if self.spans is None:
            none = torch.zeros(batch, self.config.heads, length, length, device=times.device)
            return none.masked_fill(later, -torch.inf)
        between = time_buckets(times.unsqueeze(2) - times.unsqueeze(1))
        between = between.masked_fill(later, TIME_BUCKETS)
        never = self.spans.new_full((self.config.heads, 1), -torch.inf)
        return spread(torch.cat([self.spans, never], dim=1), between)


def _neutral(levels: int, width: int) -> nn.Embedding:
    """Zeros: a tower that is told ratings starts as the one that is not, and learns what they add."""
    return nn.Embedding(levels, width, _weight=torch.zeros(levels, width))


class _Block(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, config.inner), nn.Linear(config.inner, width)
        self.drop = Dropout(config.dropout)

    def forward(
        self, state: Float[Tensor, "b l width"], bias: Float[Tensor, "b heads l l"]
    ) -> Float[Tensor, "b l width"]:
        batch, length, width = state.shape
        split = self.query_key_value(self.attention_norm(state)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        met = nn.functional.scaled_dot_product_attention(query, key, value, bias)
        state = state + self.drop(self.mixed(met.transpose(1, 2).reshape(batch, length, width)))
        return state + self.drop(self.outer(nn.functional.gelu(self.inner(self.inner_norm(state)))))
