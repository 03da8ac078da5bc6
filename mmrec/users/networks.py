"""Networks of the user model: item tower (content vectors, bounded delta) and sequence tower (causal Transformer)."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.users.tower_config import RATING_LEVELS, TowerConfig

_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """PCA whitening, ``(contents - mean) @ matrix``; the mean square norm of the result is about 1."""

    mean: Float32[np.ndarray, " content"]
    matrix: Float32[np.ndarray, "content white"]


def fit_whitening(contents: Float[np.ndarray, "n content"], most: int) -> Whitening:
    """Fit to the contents of items, in float64; keep at most so many of the strongest directions.

    A ridge, a thousandth of the mean variance, damps directions that hardly vary. Raises UsageError where there are no
    items, or their contents are not finite.
    """
    if not len(contents) or not np.isfinite(contents).all():
        raise UsageError("Whitening needs the contents of one item at least, and all of them finite numbers.")
    exact = contents.astype(np.float64)
    mean = exact.mean(axis=0)
    covariance = np.cov(exact, rowvar=False, bias=True).reshape(exact.shape[1], exact.shape[1])
    variances, directions = np.linalg.eigh(covariance)
    kept = np.argsort(-variances, kind="stable")[: min(most, max(1, len(contents) - 1))]
    ridge = _RIDGE * max(float(np.mean(variances.clip(0))), 1e-30)
    scales = 1 / np.sqrt(len(kept) * (variances[kept].clip(0) + ridge))
    matrix = np.ascontiguousarray(directions[:, kept] * scales, dtype=np.float32)
    return Whitening(mean.astype(np.float32), matrix)


# Rounding must not carry a delta over its bound.
_BOUND_MARGIN = 1 - 1e-6


class ItemTower(nn.Module):
    """Whitened content -> adaptor -> unit vector, plus a delta of bounded norm -> unit vector.

    Attributes:
        rows: Row numbers of the items that have a delta, ascending.
        delta: Their deltas before the bound is put on them; the free vectors of a tower without content.

    """

    rows: Int64[Tensor, " known"]
    mean: Float[Tensor, " content"]
    matrix: Float[Tensor, "content white"]

    def __init__(self, config: TowerConfig, rows: Int64[Tensor, " known"], whitening: Whitening | None) -> None:
        super().__init__()
        self.bound = config.delta_bound if config.content else None
        self.register_buffer("rows", rows)
        self.delta = nn.Parameter(torch.zeros(len(rows), config.dim))
        if whitening is None:
            nn.init.normal_(self.delta, std=config.dim**-0.5)
            return
        self.register_buffer("mean", torch.from_numpy(whitening.mean))
        self.register_buffer("matrix", torch.from_numpy(whitening.matrix))
        white = whitening.matrix.shape[1]
        self.adaptor = (
            nn.Sequential(nn.Linear(white, config.adaptor), nn.GELU(), nn.Linear(config.adaptor, config.dim))
            if config.adaptor
            else nn.Linear(white, config.dim)
        )
        if isinstance(self.adaptor, nn.Linear):
            nn.init.orthogonal_(self.adaptor.weight)

    def whiten(self, contents: Float[Tensor, "n content"]) -> Float[Tensor, "n white"]:
        """Whiten contents."""
        return (contents - self.mean) @ self.matrix

    def places(self, rows: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """Place of each row number among those with a delta, -1 where it has none."""
        if not len(self.rows):
            return torch.full_like(rows, -1)
        at = torch.searchsorted(self.rows, rows).clamp(max=len(self.rows) - 1)
        return torch.where(self.rows[at] == rows, at, -1)

    def bounded(self, places: Int64[Tensor, " n"]) -> Float[Tensor, "n dim"]:
        """Deltas of the items at some places, none longer than the bound; zero for place -1."""
        deltas = nn.functional.embedding(places.clamp(min=0), self.delta) if len(self.rows) else None
        if deltas is None:
            return self.delta.new_zeros(len(places), self.delta.shape[1])
        if self.bound is not None:
            norms = deltas.detach().square().sum(dim=1, keepdim=True).sqrt()
            deltas = deltas * (self.bound * _BOUND_MARGIN / norms.clamp(min=self.bound * _BOUND_MARGIN + 1e-12))
        return deltas * (places >= 0).unsqueeze(1)

    def forward(
        self,
        white: Float[Tensor, "n white"] | None,
        places: Int64[Tensor, " n"],
        dropped: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n dim"]:
        """Return unit vectors from whitened contents and deltas.

        `white` is None in a tower without content; a place is -1 for an item without a delta. Deltas of `dropped` items
        are left out, as in a step of training.
        """
        deltas = self.bounded(places)
        if white is None:
            return nn.functional.normalize(deltas, dim=1)
        if dropped is not None:
            deltas = deltas * (~dropped).unsqueeze(1)
        return nn.functional.normalize(nn.functional.normalize(self.adaptor(white), dim=1) + deltas, dim=1)


_STEPS = 256


class Dropout(nn.Module):
    """Dropout, its share rounded to the next 256th; faster than torch, as it draws one byte per number."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.out_of_256 = min(round(share * _STEPS), _STEPS - 1)

    def forward(self, values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Drop some values in training."""
        if not self.training or not self.out_of_256:
            return values
        draws = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
        draws.random_(-(2**63), None)  # None: to the end of what 64 bits hold
        kept = draws.view(torch.uint8)[: values.numel()].view(values.shape) >= self.out_of_256
        return values * kept * (_STEPS / (_STEPS - self.out_of_256))


_MAX_LOG_WEIGHT = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class EventInterests:
    """Interests of each user after each event: unit vectors, and the logarithm of the share of each.

    `short` is how much of each vector comes from the short-term path, 0 to 1.
    """

    vectors: Float[Tensor, "b l m dim"]
    log_shares: Float[Tensor, "b l m"]
    short: Float[Tensor, "b l m"]


class Readout(nn.Module):
    """Mixes a short-term and a long-term unit vector for each interest by a learned gate.

    The short-term path is the Transformer's state at the newest event. The long-term path is a weighted mean of the
    vectors of all liked items in the window, whatever their order; the weights are learned for each interest.
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
    ) -> EventInterests:
        """Return the interests after each event."""
        batch, length, dim = vectors.shape
        short = self.short(state).view(batch, length, self.interests, dim)
        # Bounded, so that running sums need no maximum, which would depend on later events.
        weights = torch.exp(_MAX_LOG_WEIGHT * torch.tanh(self.weigh(state) / _MAX_LOG_WEIGHT)) * liked.unsqueeze(2)
        long = (weights.unsqueeze(3) * vectors.unsqueeze(2)).cumsum(dim=1)
        gate = torch.sigmoid(self.gate(state))
        mixed = gate.unsqueeze(3) * _unit(short) + (1 - gate).unsqueeze(3) * _unit(long)
        shares = torch.zeros_like(gate) if self.share is None else torch.log_softmax(self.share(state), dim=2)
        return EventInterests(_unit(mixed), shares, gate)


def _unit(vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
    return nn.functional.normalize(vectors, dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Events of several users, oldest first, padded at the end with any values.

    Times are in microseconds since 1970 in UTC. `requested` is the time of the request after an event: that of the next
    event, and in service now for the last one. `liked` says whether the kind is positive, whatever the rating; codes of
    kinds and levels of ratings are 0 where they are unknown.
    """

    vectors: Float[Tensor, "b l dim"]
    kinds: Int64[Tensor, "b l"]
    liked: Bool[Tensor, "b l"]
    times: Int64[Tensor, "b l"]
    requested: Int64[Tensor, "b l"]
    ratings: Int64[Tensor, "b l"]


class _Spread(torch.autograd.Function):
    """An embedding look-up whose gradient is twenty times as fast as torch's where many places share few numbers."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own context
        ctx.save_for_backward(places)
        ctx.size = table.shape[1]
        flat = places.reshape(-1)
        out = table.new_empty(places.shape[0], len(table), *places.shape[1:])
        for head, numbers in enumerate(table):
            out[:, head] = numbers.index_select(0, flat).view(places.shape)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (places,) = ctx.saved_tensors
        flat = places.reshape(-1)
        sums = gradient.new_zeros(gradient.shape[1], ctx.size)
        for head in range(len(sums)):
            sums[head].scatter_add_(0, flat, gradient[:, head].reshape(-1))
        return sums, None


def spread(table: Float[Tensor, "heads n"], places: Int64[Tensor, "b l l"]) -> Float[Tensor, "b heads l l"]:
    """Return ``table[:, places]``, with the heads behind the batch."""
    made: Tensor = _Spread.apply(table, places)  # type: ignore[no-untyped-call]
    return made


TIME_BUCKETS: Final = 32
"""Under a second, then doubling; the last begins at 68 years."""


def time_buckets(spans: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Bucket of each duration in microseconds; below 0 counts as 0."""
    seconds = spans.clamp(min=0).to(torch.float32) / 1e6
    # The smallest step over 1 keeps whole powers of two from rounding into the bucket below.
    return torch.log2((seconds + 1) * (1 + 1e-6)).to(torch.int64).clamp(max=TIME_BUCKETS - 1)


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
        # Zeros: with ratings a tower starts as the one without, and learns what they add.
        levels = nn.Embedding(RATING_LEVELS, width, _weight=torch.zeros(RATING_LEVELS, width))
        self.ratings = levels if config.ratings else None
        for table in (self.kinds, self.gaps):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.spans = nn.Parameter(torch.zeros(config.heads, TIME_BUCKETS)) if config.spans else None
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(config)

    def forward(self, batch: Sequences) -> EventInterests:
        """Return the interests of each user after each of their events; at most `window` of them."""
        length = batch.vectors.shape[1]
        # Unit vectors have small parts; the Transformer wants those of about 1.
        entered = self.enter(batch.vectors * self.config.dim**0.5)
        state = entered + self.positions[:length] + self.kinds(batch.kinds)
        if self.gaps is not None:
            state = state + self.gaps(time_buckets(batch.requested - batch.times))
        if self.ratings is not None:
            state = state + self.ratings(batch.ratings)
        state = self.drop(state)
        bias = self._bias(batch.times)
        for block in self.blocks:
            state = block(state, bias)
        return self.readout(self.norm(state), batch.vectors, batch.liked)

    def _bias(self, times: Int64[Tensor, "b l"]) -> Float[Tensor, "b heads l l"]:
        """Bias of the attention: by the time between the two events, and -inf for later events."""
        batch, length = times.shape
        later = torch.ones(length, length, dtype=torch.bool, device=times.device).triu(1)
        if self.spans is None:
            none = torch.zeros(batch, self.config.heads, length, length, device=times.device)
            return none.masked_fill(later, -torch.inf)
        between = time_buckets(times.unsqueeze(2) - times.unsqueeze(1))
        between = between.masked_fill(later, TIME_BUCKETS)
        never = self.spans.new_full((self.config.heads, 1), -torch.inf)
        return spread(torch.cat([self.spans, never], dim=1), between)


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
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, bias)
        state = state + self.drop(self.mixed(mixed.transpose(1, 2).reshape(batch, length, width)))
        return state + self.drop(self.outer(nn.functional.gelu(self.inner(self.inner_norm(state)))))
