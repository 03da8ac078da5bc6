"""Configuration of the user tower, and the levels of ratings of its input."""

from typing import Final

import numpy as np
from jaxtyping import Float32, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator


class TowerConfig(BaseModel):
    """Sizes and inputs of a tower; with its weights it is all that is needed to run it.

    Attributes:
        dim: Length of the vectors of items and users.
        content: Whether items are placed by their content; if not, by a free vector each, as SASRec does, and items
            without one cannot be placed.
        white: Most dimensions of whitened content that are kept.
        adaptor: Width of the adaptor's hidden layer; 0 for a linear one.
        delta_bound: Norm that an item's own delta can have at most, beside a content vector of norm 1; 0 for none. It
            bounds how far behaviour moves an item away from where its content alone puts it.
        width: Width of the Transformer.
        layers: Number of its blocks.
        heads: Attention heads of each.
        inner: Width of the hidden layer of its feed-forward networks.
        window: Most events of its input, the newest ones.
        interests: Vectors a user, 1 to 4.
        dropout: Share of activations dropped while training.
        ask_time: Whether the time from each event to the request is an input.
        spans: Whether attention is biased by the time between two events.
        kinds: Kinds of events that it distinguishes; all others are one.
        ratings: Whether ratings are an input; training turns this on where values count as ratings.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=2, le=4096)
    content: bool = True
    white: int = Field(default=256, ge=1)
    adaptor: int = Field(default=0, ge=0)
    delta_bound: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    width: int = Field(default=64, ge=2, le=4096)
    layers: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=2, ge=1)
    inner: int = Field(default=256, ge=1)
    window: int = Field(default=100, ge=1)
    interests: int = Field(default=1, ge=1, le=4)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    ask_time: bool = True
    spans: bool = True
    kinds: tuple[str, ...] = ()
    ratings: bool = False

    @model_validator(mode="after")
    def _heads_divide(self) -> "TowerConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; make it one")
        return self


_EDGES: Final = (-1.0, 0.0, 0.75, 1.25)
RATING_LEVELS: Final = len(_EDGES) + 2
"""None, strong dislike, dislike, weak like, average, strong like."""


def rating_levels(strengths: Float32[np.ndarray, " n"] | None, count: int) -> Int64[np.ndarray, " n"]:
    """Level of each of `count` events by its strength as a rating; 0 where it is none, or there are no strengths."""
    if strengths is None:
        return np.zeros(count, dtype=np.int64)
    return np.where(np.isnan(strengths), 0, 1 + np.digitize(strengths, _EDGES, right=True)).astype(np.int64)
