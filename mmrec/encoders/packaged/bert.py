"""BERT's encoder as a small torch module. transformers' own takes seconds to import; a test compares both."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

__all__ = ["BertNetwork", "BertSize"]


@dataclass(frozen=True, slots=True)
class BertSize:
    """The numbers of a BERT configuration; the defaults are those of all-MiniLM-L6-v2."""

    vocabulary: int = 30_522
    positions: int = 512
    segments: int = 2
    width: int = 384
    inner: int = 1536
    heads: int = 12
    layers: int = 6
    epsilon: float = 1e-12


class _Layer(nn.Module):
    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.query = nn.Linear(size.width, size.width)
        self.key = nn.Linear(size.width, size.width)
        self.value = nn.Linear(size.width, size.width)
        self.mixed = nn.Linear(size.width, size.width)
        self.mixed_norm = nn.LayerNorm(size.width, size.epsilon)
        self.inner = nn.Linear(size.width, size.inner)
        self.outer = nn.Linear(size.inner, size.width)
        self.outer_norm = nn.LayerNorm(size.width, size.epsilon)

    def forward(
        self, states: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch 1 1 tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        query, key, value = (
            projection(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, tokens, width / heads)
            for projection in (self.query, self.key, self.value)
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        states = self.mixed_norm(states + self.mixed(attended))
        normed: Tensor = self.outer_norm(states + self.outer(gelu(self.inner(states))))
        return normed


class BertNetwork(nn.Module):
    """Token numbers -> the mean of the last layer's states over the real tokens.

    Source: Devlin et al. 2019, arXiv 1810.04805; mean pooling after Reimers and Gurevych 2019, arXiv 1908.10084.
    """

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.words = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Embedding(size.positions, size.width)
        self.segments = nn.Embedding(size.segments, size.width)
        self.norm = nn.LayerNorm(size.width, size.epsilon)
        self.layers = nn.ModuleList(_Layer(size) for _ in range(size.layers))

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], real: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch width"]:
        """Return the mean state of each row; `real` is false where a row is padded."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.norm(self.words(tokens) + self.positions(places) + self.segments.weight[0])
        mask = real[:, None, None, :]
        for layer in self.layers:
            states = layer(states, mask)
        weights = real[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)
